// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// knock calls a port from outside of the mesh, and returns the answer, or the
// error by name.
func knock(t *testing.T, from *testhost.Host, at netip.Addr, port int) string {
	t.Helper()
	out, _ := from.Run(t, "", testhost.Python(), "-c", askPeer, at.String(), fmt.Sprint(port))
	return strings.TrimSpace(out)
}

// becomes waits until a call from outside is answered like that.
func becomes(t *testing.T, from *testhost.Host, at netip.Addr, port int, want string) {
	t.Helper()
	testhost.Eventually(t, 20*time.Second, fmt.Sprintf("port %d of %s says %s", port, at, want), func() error {
		if got := knock(t, from, at, port); got != want {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}

const public = `ingress {
  name    = "public"
  port    = 8080
  service = "web"
}
`

// TestIngress: plain connections from outside come in for a service on another
// node, once an intention names the ingress, and over the lane between the nodes.
func TestIngress(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"web"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	outside := m.Host(t, "outside")
	servePeer(t, host2, "web", "plain", "127.0.0.1", 8000)
	file := filepath.Join(host1.Services, "public.hcl")
	testhost.WriteFile(t, file, public)
	testhost.AwaitText(t, 10*time.Second, "the ingress is loaded", `"service loaded" service=ingress/public`, host1.Current(t).Output)

	if got := knock(t, outside, host1.Addr, 8080); got != refusedBy {
		t.Errorf("without an intention: %s", got)
	}
	host1.Tacit(t, "intention", "allow", "*", "web", "--wait")
	if err := contains(host1.Tacit(t, "service", "show", "ingress/public"), "no: default"); err != nil {
		t.Error(err)
	}
	if got := knock(t, outside, host1.Addr, 8080); got != refusedBy {
		t.Errorf("with an intention for *: %s", got)
	}
	if out, exit := host1.TryTacit(t, "intention", "check", "ingress/public", "web"); exit != 1 || !strings.Contains(out, "denied (default)") {
		t.Errorf("check: exit %d, %s", exit, out)
	}

	wire := m.Record(t)
	host1.Tacit(t, "intention", "allow", "ingress/public", "web", "--wait")
	testhost.Eventually(t, 10*time.Second, "the ingress is known", func() error {
		return succeeded(host2.TryTacit(t, "service", "show", "ingress/public"))
	})
	v4, _ := virtuals(t, host2, "ingress/public")
	becomes(t, outside, host1.Addr, 8080, v4)
	wire.Mark(t)
	plain := fmt.Sprintf("tcp and host %s and host %s and not port 7946 and not port 7947", host1.Addr, host2.Addr)
	if frames := wire.Frames(t, plain); len(frames) > 0 {
		t.Errorf("between the nodes: %q", frames)
	}
	if out, _ := host2.Run(t, "", testhost.Python(), "-c", "import socket; print(socket.gethostbyaddr('"+v4+"')[0])"); strings.TrimSpace(out) != "public.ingress.mesh" {
		t.Errorf("the name of %s is %s", v4, out)
	}
	flows := host1.Tacit(t, "flows", "--json")
	for _, want := range []string{`"source": "ingress/public"`, `"client": "` + outside.Addr.String()} {
		if err := contains(flows, want); err != nil {
			t.Errorf("flows: %v", err)
		}
	}

	testhost.WriteFile(t, file, strings.Replace(public, "8080", "8090", 1))
	becomes(t, outside, host1.Addr, 8090, v4)
	if got := knock(t, outside, host1.Addr, 8080); got != refusedBy {
		t.Errorf("the port that it had: %s", got)
	}
	testhost.WriteFile(t, file, strings.Replace(public, "port ", "prot ", 1))
	statusSays(t, host1, file+":3:3: ingress.prot: unknown key; did you mean port?")
	if got := knock(t, outside, host1.Addr, 8090); got != v4 {
		t.Errorf("while the file is bad: %s", got)
	}
	host1.Stop(t)
	if got := knock(t, outside, host1.Addr, 8090); got != refusedBy {
		t.Errorf("while the daemon is away: %s", got)
	}
	testhost.WriteFile(t, file, public)
	host1.Daemon(t)
	becomes(t, outside, host1.Addr, 8080, v4)
	testhost.WriteFile(t, file, "")
	becomes(t, outside, host1.Addr, 8080, refusedBy)
}

// TestIngressIsCut: a deny, and the end of the grant, cut what came in and close
// the port. A node without a grant opens none, and says what to do.
func TestIngressIsCut(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"web"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	outside := m.Host(t, "outside")
	dir := webServer(t, host1, "files", "127.0.0.1", 8000, "files")
	bigFile(t, dir)
	host1.Tacit(t, "service", "register", "files", "--port", "8000")
	testhost.WriteFile(t, filepath.Join(host2.Services, "down.json"), `{"ingress": [{"name": "down", "address": "`+host2.Addr.String()+`", "port": 8080, "service": "files"}]}`)
	statusSays(t, host2, "tacit node grant host2 --service ingress/down")
	host1.Tacit(t, "intention", "allow", "ingress/down", "files", "--wait")
	url := "http://" + host2.Addr.String() + ":8080/"
	refused(t, outside, "", url)

	for _, c := range []struct{ open, close []string }{
		{[]string{"node", "grant", "host2", "--service", "ingress/down"}, []string{"intention", "deny", "ingress/down", "files", "--wait"}},
		{[]string{"intention", "allow", "ingress/down", "files", "--wait"}, []string{"node", "grant", "host2", "--service", "ingress/down", "--withdraw"}},
	} {
		host1.Tacit(t, c.open...)
		becomesReachable(t, outside, "", url)
		download := outside.Start(t, "", "curl", "-sS", "-o", "/dev/null", "--limit-rate", "4M", url+"big")
		testhost.Eventually(t, 10*time.Second, "the download is running", func() error {
			return contains(host2.Tacit(t, "service", "show", "ingress/down", "--json"), `"connections": 1`)
		})
		host1.Tacit(t, c.close...)
		if exit := download.Wait(t, 5*time.Second); exit != 56 { // curl(1): failure in receiving
			t.Errorf("after %v the download ended with %d", c.close, exit)
		}
		testhost.Eventually(t, 10*time.Second, "the port is closed", func() error {
			if _, exit := curl(t, outside, "", url); exit != 7 {
				return fmt.Errorf("exit %d", exit)
			}
			return nil
		})
	}
}

// TestIngressShowsClients: a service that asks for it learns the address of the
// client outside, from an ingress on its own node and from one on another, whose
// grant came with its token.
func TestIngressShowsClients(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"web", "ingress/here"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	outside := m.Host(t, "outside")
	servePeer(t, host2, "web", "proxy", "127.0.0.1", 8000, "--client-address", "proxy_protocol")
	for name, h := range map[string]*testhost.Host{"there": host1, "here": host2} {
		testhost.WriteFile(t, filepath.Join(h.Services, "in.json"), `{"ingress": {"name": "`+name+`", "port": 8080, "service": "web"}}`)
		host1.Tacit(t, "intention", "allow", "ingress/"+name, "web", "--wait")
		testhost.Eventually(t, 10*time.Second, "the ingress is known", func() error {
			return succeeded(host2.TryTacit(t, "service", "show", "ingress/"+name))
		})
		v4, _ := virtuals(t, host2, "ingress/"+name)
		id := jsonOf[struct{ ID string }](t, host2.Tacit(t, "service", "show", "ingress/"+name, "--json")).ID
		if !strings.HasSuffix(id, "/ingress/"+name) {
			t.Errorf("the ID is %s", id)
		}
		becomes(t, outside, h.Addr, 8080, fmt.Sprintf("%s %s 0xe0 %s hello", v4, outside.Addr, id))
		becomes(t, outside, h.Addr6, 8080, fmt.Sprintf("%s %s 0xe0 %s hello", v4, outside.Addr6, id))
	}
}

// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

const realName = "db.abc.rds.example"

// beyond is a host that knows nothing of the mesh: it has a server on port 5432,
// and the resolver of all nodes, whose zone has the server's name.
type beyond struct {
	*testhost.Host
	zone           string // file
	server, naming *testhost.Process
}

// outsideMesh is a mesh of two nodes; web and spy run on the first one, which holds
// the operator key, and the second one may run rds.
func outsideMesh(t *testing.T) (m *testhost.Mesh, out *beyond) {
	t.Helper()
	m = testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"rds"}, Prepare: func(m *testhost.Mesh) {
		out = &beyond{Host: m.Host(t, "beyond")}
		out.zone = filepath.Join(out.Dir, "zone")
		testhost.WriteFile(t, out.zone, realName+" "+out.Addr.String()+"\n")
		script, err := filepath.Abs("testdata/zone.py")
		testhost.Must(t, err)
		out.naming = out.Start(t, "user", testhost.Python(), script, out.Addr.String(), out.zone)
		testhost.AwaitText(t, 10*time.Second, "the resolver", "ready", out.naming.Output)
		dir := t.TempDir()
		testhost.WriteFile(t, filepath.Join(dir, "index.html"), "beyond")
		bigFile(t, dir)
		out.server = out.Start(t, "user", testhost.Python(), "-u", "-m", "http.server", "5432", "--bind", out.Addr.String(), "--directory", dir)
		out.AwaitListener(t, 5432)
		for _, h := range m.Nodes {
			h.SetResolvConf(t, fmt.Sprintf("nameserver %s\noptions timeout:1 attempts:1\n", out.Addr))
		}
	}})
	for _, name := range []string{"web", "spy"} {
		m.Nodes[0].Tacit(t, "service", "register", name)
	}
	return m, out
}

// defineRDS writes the service file of rds on a node, with what stands in its outside block.
func defineRDS(t *testing.T, h *testhost.Host, block string) {
	t.Helper()
	testhost.WriteFile(t, filepath.Join(h.Services, "rds.hcl"), "service {\n  name = \"rds\"\n  port = 5432\n  outside { "+block+" }\n"+
		"  check { http = \"/\" interval = \"1s\" }\n}\n")
}

// seenFrom are the addresses from which the server was called after its output had
// some length, without repetitions.
func (b *beyond) seenFrom(after int) string {
	var out []string
	for line := range strings.Lines(b.server.Output()[after:]) {
		if from, _, ok := strings.Cut(line, " - - "); ok && !strings.Contains(strings.Join(out, " "), from) {
			out = append(out, from)
		}
	}
	return strings.Join(out, " ")
}

// callLater starts a program as a workload that calls url when call is called, which
// returns what it printed: no workload can be started without a daemon.
func callLater(t *testing.T, h *testhost.Host, service, url string) (call func() string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "go")
	p := h.StartAs(t, service, "bash", "-c", `echo up; until [ -e "$0" ]; do sleep 0.05; done; curl -sS --max-time 10 "$1"; echo "exit $?"`, file, url)
	testhost.AwaitText(t, 10*time.Second, "a caller", "up", p.Output)
	return func() string {
		testhost.WriteFile(t, file, "")
		testhost.AwaitText(t, 20*time.Second, "the call's end", "exit ", p.Output)
		return p.Output()
	}
}

// TestOutside: a service outside of the mesh is called through the node that reaches
// it, by its own name and by its real one, by those who are allowed.
func TestOutside(t *testing.T) {
	m, out := outsideMesh(t)
	host1, host2 := m.Nodes[0], m.Nodes[1]
	defineRDS(t, host2, `hosts = ["`+realName+`"]`)
	statusSays(t, host2, "no operator has vouched that "+realName+" is rds")
	host1.Tacit(t, "intention", "allow", "web", "rds", "--wait")
	become(t, host2, "rds", map[string]string{"service:rds": "passing beyond"})
	wire := m.Record(t)
	becomesReachable(t, host1, "web", "http://rds:5432/")
	answers(t, host1, "", "http://"+realName+":5432/", "beyond")
	if seen := out.seenFrom(0); seen != host2.Addr.String()+" "+host1.Addr.String() {
		t.Errorf("before the name is vouched for, the server was called from %s", seen)
	}

	before := len(out.server.Output())
	host1.Tacit(t, "node", "grant", "host2", "--service", "rds", "--outside", realName)
	testhost.Eventually(t, 10*time.Second, "host1 takes the real name", func() error {
		return contains(host1.Tacit(t, "resolve", realName), "is the real name of the service rds")
	})
	wire.Mark(t)
	frames := len(wire.Frames(t, fmt.Sprintf("host %s and host %s and port 5432", host1.Addr, out.Addr)))
	for _, url := range []string{"http://rds:5432/", "http://rds.mesh/", "http://" + realName + ":5432/", "http://" + strings.ToUpper(realName) + ":5432/"} {
		answers(t, host1, "web", url, "beyond")
	}
	for _, url := range []string{"http://rds:5432/", "http://" + realName + ":5432/"} {
		refused(t, host1, "spy", url)
	}
	wire.Mark(t)
	if now := len(wire.Frames(t, fmt.Sprintf("host %s and host %s and port 5432", host1.Addr, out.Addr))); now != frames {
		t.Errorf("%d packets went from a workload on host1 to the server directly", now-frames)
	}
	if plain := wire.Frames(t, fmt.Sprintf("host %s and host %s and tcp and not port 7946 and not port 7947", host1.Addr, host2.Addr)); len(plain) > 0 {
		t.Errorf("packets between host1 and host2 that are neither of lanes nor of gossip:\n%s", strings.Join(plain, "\n"))
	}
	if seen := out.seenFrom(before); seen != host2.Addr.String() {
		t.Errorf("the server was called from %s, want %s", seen, host2.Addr)
	}
	for _, want := range []string{realName, out.Addr.String() + ":5432", "outside"} {
		if text := host2.Tacit(t, "service", "show", "rds"); !strings.Contains(text, want) {
			t.Errorf("tacit service show rds has no %s:\n%s", want, text)
		}
	}
	answers(t, host1, "", "http://"+realName+":5432/", "beyond") // no workload: as without tacit

	big := host1.StartAs(t, "web", "curl", "-sS", "--limit-rate", "4M", "-o", "/dev/null", "http://"+realName+":5432/big")
	testhost.Eventually(t, 10*time.Second, "a live connection", func() error {
		return contains(host1.Tacit(t, "flows", "--json"), `"live": true`)
	})
	host1.Tacit(t, "intention", "deny", "web", "rds", "--wait")
	testhost.Eventually(t, 10*time.Second, "the live connection is cut", func() error {
		return contains(big.Output(), "curl: (56)")
	})
	refused(t, host1, "web", "http://"+realName+":5432/")

	host1.Tacit(t, "intention", "allow", "web", "rds", "--wait")
	answers(t, host1, "web", "http://rds:5432/", "beyond")
	testhost.WriteFile(t, out.zone, "other.example 192.0.2.1\n")
	statusSays(t, host2, "resolve "+realName)
	testhost.Eventually(t, 10*time.Second, "no address of rds is known", func() error {
		return contains(host1.Tacit(t, "service", "show", "rds"), "no: address")
	})
	refused(t, host1, "web", "http://rds:5432/")
	testhost.WriteFile(t, out.zone, realName+" "+out.Addr.String()+"\n")
	becomesReachable(t, host1, "web", "http://rds:5432/")

	before = len(out.server.Output())
	host2.Kill(t)
	testhost.Eventually(t, 20*time.Second, "host2 is known to be dead", func() error {
		return contains(host1.Tacit(t, "service", "show", "rds"), "no: node")
	})
	refused(t, host1, "web", "http://"+realName+":5432/")
	call := callLater(t, host1, "web", "http://"+realName+":5432/")
	host1.Kill(t)
	asked := len(out.naming.Output())
	if text := call(); !strings.Contains(text, "Could not resolve host") {
		t.Errorf("without daemons, web called %s: %s", realName, text)
	}
	if text := out.naming.Output()[asked:]; strings.Contains(text, host1.Addr.String()+" asked "+realName) {
		t.Errorf("without a daemon, the resolver was asked for the real name:\n%s", text)
	}
	if seen := out.seenFrom(before); seen != "" {
		t.Errorf("without daemons, the server was called from %s", seen)
	}
	host2.Daemon(t)
	host1.Daemon(t)
	becomesReachable(t, host1, "web", "http://"+realName+":5432/")
}

// TestOutsideFromAnywhere: with reach = "any" each node calls by itself, and an
// address that is vouched for means the service for workloads, and for nobody else.
func TestOutsideFromAnywhere(t *testing.T) {
	m, out := outsideMesh(t)
	host1, host2 := m.Nodes[0], m.Nodes[1]
	at := out.Addr.String() + ":5432"
	defineRDS(t, host2, fmt.Sprintf(`addresses = ["%s", "%s:1"]  reach = "any"`, at, host1.Addr))
	statusSays(t, host2, fmt.Sprintf("rds.hcl:1: service.outside.addresses: %s is the address of the node host1: it is never called", host1.Addr))
	statusSays(t, host1, fmt.Sprintf("the record of rds on host2: %s is this node's own address: it is never called", host1.Addr))
	host1.Tacit(t, "intention", "allow", "web", "rds", "--wait")
	becomesReachable(t, host1, "web", "http://rds:5432/")
	answers(t, host1, "spy", "http://"+at+"/", "beyond") // nobody has vouched for the address
	host1.Tacit(t, "node", "grant", "host2", "--service", "rds", "--outside", out.Addr.String())
	testhost.Eventually(t, 10*time.Second, "the address is the service's", func() error {
		out, exit := curl(t, host1, "spy", "http://"+at+"/")
		if exit != 7 {
			return fmt.Errorf("exit %d: %s", exit, out)
		}
		return nil
	})
	host2.Kill(t)
	before := len(out.server.Output())
	for _, url := range []string{"http://rds:5432/", "http://" + at + "/"} {
		answers(t, host1, "web", url, "beyond")
		refused(t, host1, "spy", url)
	}
	if seen := out.seenFrom(before); seen != host1.Addr.String() {
		t.Errorf("the server was called from %s, want %s", seen, host1.Addr)
	}
	if text := host1.Tacit(t, "flows"); strings.Count(text, "rds") == 0 || !strings.Contains(text, "intention") && !strings.Contains(text, "default") {
		t.Errorf("tacit flows:\n%s", text)
	}
	answers(t, host1, "", "http://"+at+"/", "beyond")
	inContainer(t, host1, at)
	call := callLater(t, host1, "web", "http://"+at+"/")
	host1.Kill(t)
	if text := call(); !strings.Contains(text, "exit 7") {
		t.Errorf("without a daemon, web called %s: %s", at, text)
	}
	host1.Daemon(t)
	becomesReachable(t, host1, "web", "http://"+at+"/")
}

// inContainer: a workload in another network namespace calls by virtual address; to
// the vouched real one, which would leave the host around the mesh, it is refused.
func inContainer(t *testing.T, host *testhost.Host, at string) {
	t.Helper()
	box := host.Container(t, "box")
	host.Tacit(t, "service", "register", "boxed", "--cgroup", box.CgroupPath("app"))
	host.Tacit(t, "intention", "allow", "boxed", "rds")
	virtual, _ := virtuals(t, host, "rds")
	call := func(cgroup, at string) (string, int) {
		return box.Run(t, cgroup, "curl", "-sS", "--max-time", "10", "http://"+at+"/")
	}
	testhost.Eventually(t, 10*time.Second, "a container's call", func() error {
		return succeeded(call("app", virtual+":5432"))
	})
	if out, exit := call("app", at); exit != 7 {
		t.Errorf("a workload in a container called %s: exit %d, %s", at, exit, out)
	}
}

// TestOutsideRefused: what can't be outside is refused where it is registered.
func TestOutsideRefused(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	host.Daemon(t, "--bootstrap")
	for addr, want := range map[string]string{
		host.Addr.String():   host.Addr.String() + " is this node's own address",
		"240.64.0.9":         "240.64.0.9 is a virtual address of the mesh",
		"169.254.169.254:80": "169.254.169.254 is a link-local address",
		"db":                 `"db": must be an IP address`,
	} {
		out, exit := host.TryTacit(t, "service", "register", "rds", "--port", "5432", "--outside", addr)
		if exit == 0 || !strings.Contains(out, want) {
			t.Errorf("--outside %s: exit %d, %s; want %s", addr, exit, out, want)
		}
	}
	out := host.Tacit(t, "service", "register", "rds", "--port", "5432", "--outside", realName)
	if !strings.Contains(out, "workloads on every node of the mesh reach rds by the name "+realName) {
		t.Error(out)
	}
}

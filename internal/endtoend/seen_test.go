// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// answerPeer is a server that answers each connection with the peer's address.
// With "proxy" it first reads a PROXY protocol header, and answers with the
// header's source address and the value of its TLV too. With "trust" it admits
// callers from localhost only, as pg_hba.conf may say.
const answerPeer = `import socket, struct, sys
how, addr, port = sys.argv[1:4]
s = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((addr, int(port)))
s.listen(64)
while True:
    c, peer = s.accept()
    out = peer[0]
    if how == "proxy":
        c.settimeout(5)
        try:
            head = c.recv(16, socket.MSG_WAITALL)
            rest = c.recv(struct.unpack(">H", head[14:])[0], socket.MSG_WAITALL)
            n = 4 if head[13] == 0x11 else 16
            src = socket.inet_ntop(socket.AF_INET if n == 4 else socket.AF_INET6, rest[:n])
            tlv = rest[2 * n + 4:]
            out += " %s %#x %s" % (src, tlv[0], tlv[3:].decode())
            out += " " + c.recv(5, socket.MSG_WAITALL).decode()
        except Exception as e:
            out = "no header: %r" % e
    if how == "trust":
        out = "trusted" if out in ("127.0.0.1", "::1", "::ffff:127.0.0.1") else "not trusted"
    c.sendall(out.encode() + b"\n")
    c.close()
`

// askPeer calls each of its arguments, ADDRESS PORT, and prints the answer or the
// error. An address with a source, SOURCE>ADDRESS, is called with a socket that is
// bound to that source.
const askPeer = `import errno, socket, sys
for at, port in zip(sys.argv[1::2], sys.argv[2::2]):
    source, _, at = at.rpartition(">")
    s = socket.socket(socket.AF_INET6 if ":" in at else socket.AF_INET)
    s.settimeout(10)
    try:
        if source:
            s.setsockopt(socket.SOL_IP, 15, 1) # IP_FREEBIND
            s.bind((source, 0))
        s.connect((at, int(port)))
        s.sendall(b"hello")
        print(s.recv(1000).decode().strip())
    except OSError as e:
        print(errno.errorcode.get(e.errno, e))
    s.close()
`

// listeners are the ways in which programs listen, each a service of its own.
var listeners = []struct {
	service, bind string
	port          int
}{{"lo4", "127.0.0.1", 8001}, {"lo6", "::1", 8002}, {"any4", "0.0.0.0", 8003}, {"dual", "::", 8004}}

func servePeer(t *testing.T, h *testhost.Host, service, how, bind string, port int, more ...string) {
	t.Helper()
	h.StartAs(t, service, testhost.Python(), "-c", answerPeer, how, bind, fmt.Sprint(port))
	h.AwaitListener(t, port)
	h.Tacit(t, append([]string{"service", "register", service, "--port", fmt.Sprint(port)}, more...)...)
}

// virtuals are the addresses of a service on a node.
func virtuals(t *testing.T, h *testhost.Host, service string) (v4, v6 string) {
	t.Helper()
	s := jsonOf[struct{ Virtual4, Virtual6 string }](t, h.Tacit(t, "service", "show", service, "--json"))
	return s.Virtual4, s.Virtual6
}

func ask(t *testing.T, h *testhost.Host, service string, targets ...string) []string {
	t.Helper()
	out, _ := h.RunAs(t, service, testhost.Python(), append([]string{"-c", askPeer}, targets...)...)
	return strings.Split(strings.TrimSpace(out), "\n")
}

// TestWhoTheServerSees: whichever way a call takes, and however the program
// listens, its peer address is the calling service's virtual address on its node.
func TestWhoTheServerSees(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"lo4", "lo6", "any4", "dual", "web", "boxed"}, Prepare: func(m *testhost.Mesh) {
		for _, h := range m.Nodes { // NAT gives every connection, by loopback too, the address of its interface
			h.Sh(t, "iptables -t nat -A POSTROUTING -j MASQUERADE")
			h.Sh(t, "ip6tables -t nat -A POSTROUTING -j MASQUERADE")
		}
	}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	var upstreams []string
	for i, l := range listeners {
		servePeer(t, host2, l.service, "plain", l.bind, l.port)
		upstreams = append(upstreams, "--upstream", fmt.Sprintf("%s=%d", l.service, 12000+i))
	}
	for _, h := range m.Nodes {
		h.Tacit(t, append([]string{"service", "register", "web"}, upstreams...)...)
	}
	box := host1.Container(t, "box")
	host1.Tacit(t, "service", "register", "boxed", "--cgroup", box.CgroupPath("app"))
	for _, source := range []string{"web", "boxed"} {
		for _, l := range listeners {
			host1.Tacit(t, "intention", "allow", source, l.service, "--wait")
		}
	}
	testhost.Eventually(t, 10*time.Second, "everything is known everywhere", func() error {
		for _, h := range m.Nodes {
			for _, name := range []string{"web", "boxed", "dual"} {
				if err := succeeded(h.TryTacit(t, "service", "show", name)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for _, family := range []string{"IPv4", "IPv6"} {
		at := func(h *testhost.Host, source string) (targets []string) {
			for _, l := range listeners {
				v4, v6 := virtuals(t, h, l.service)
				if family == "IPv6" {
					v4 = v6
				}
				targets = append(targets, source+v4, fmt.Sprint(l.port))
			}
			return targets
		}
		loopback, own := "127.0.0.1", "127.0.0.1>"
		if family == "IPv6" {
			loopback, own = "::1", "::1>"
		}
		var explicit, real []string
		for i, l := range listeners {
			explicit = append(explicit, loopback, fmt.Sprint(12000+i))
			real = append(real, loopback, fmt.Sprint(l.port))
		}
		for _, way := range []struct {
			name   string
			source string
			call   func() []string
		}{
			{"remote", "web", func() []string { return ask(t, host1, "web", at(host1, "")...) }},
			{"remote, explicit upstream", "web", func() []string { return ask(t, host1, "web", explicit...) }},
			{"same node", "web", func() []string { return ask(t, host2, "web", at(host2, "")...) }},
			{"same node, explicit upstream", "web", func() []string { return ask(t, host2, "web", explicit...) }},
			{"same node, from a socket bound to loopback", "web", func() []string { return ask(t, host2, "web", at(host2, own)...) }},
			{"same node, the program's own port", "web", func() []string { return ask(t, host2, "web", real...) }},
			{"container", "boxed", func() []string {
				out, _ := box.Run(t, "app", testhost.Python(), append([]string{"-c", askPeer}, at(host1, "")...)...)
				return strings.Split(strings.TrimSpace(out), "\n")
			}},
		} {
			v4, v6 := virtuals(t, host2, way.source)
			want := []string{v4, v6, v4, "::ffff:" + v4}
			if way.name == "same node, the program's own port" { // nobody listens at the other family's loopback
				if family == "IPv4" {
					want[1] = refusedBy
				} else {
					want = []string{v4, v6, v4, "::ffff:" + v4}
				}
			}
			if got := way.call(); !equalLines(got, want) {
				t.Errorf("%s, %s: the programs saw %q; want %q", way.name, family, got, want)
			}
		}
	}
}

// TestSeenByTPROXY: the TPROXY backend shows the same.
func TestSeenByTPROXY(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"lo4", "lo6", "any4", "dual", "web"}, Flags: []string{"--redirect", "tproxy"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	for _, l := range listeners {
		servePeer(t, host2, l.service, "plain", l.bind, l.port)
		host1.Tacit(t, "intention", "allow", "web", l.service, "--wait")
	}
	for _, h := range m.Nodes {
		h.Tacit(t, "service", "register", "web")
		testhost.Eventually(t, 10*time.Second, "everything is known on "+h.Name, func() error { return succeeded(h.TryTacit(t, "service", "show", "dual")) })
	}
	v4, v6 := virtuals(t, host2, "web")
	for _, h := range m.Nodes {
		var targets []string
		for _, l := range listeners {
			at4, at6 := virtuals(t, h, l.service)
			targets = append(targets, at4, fmt.Sprint(l.port), at6, fmt.Sprint(l.port))
		}
		want := []string{v4, v4, v6, v6, v4, v4, "::ffff:" + v4, "::ffff:" + v4}
		testhost.Eventually(t, 10*time.Second, "the programs see web of "+h.Name, func() error {
			if got := ask(t, h, "web", targets...); !equalLines(got, want) {
				return fmt.Errorf("%q; want %q", got, want)
			}
			return nil
		})
	}
	out, _ := host2.RunAs(t, "", testhost.Python(), "-c", askPeer, v4+">127.0.0.1", "8001")
	if got := strings.TrimSpace(out); got != refusedBy {
		t.Errorf("an impostor: %q", got)
	}
}

const refusedBy = "ECONNREFUSED"

func equalLines(got, want []string) bool { return strings.Join(got, "\n") == strings.Join(want, "\n") }

// TestImpostor: nobody can call from the virtual address of a service, and a
// program that trusts 127.0.0.1 doesn't trust callers of the mesh.
func TestImpostor(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{})
	h := m.Nodes[0]
	servePeer(t, h, "db", "plain", "127.0.0.1", 8000)
	for _, name := range []string{"web", "evil"} {
		h.Tacit(t, "service", "register", name)
		h.Tacit(t, "intention", "allow", name, "db", "--wait")
	}
	web4, web6 := virtuals(t, h, "web")
	evil4, _ := virtuals(t, h, "evil")
	db4, db6 := virtuals(t, h, "db")
	got := ask(t, h, "evil", web4+">"+db4, "8000", web4+">127.0.0.1", "8000", "::ffff:"+web4+">::ffff:"+db4, "8000",
		web6+">"+db6, "8000", evil4+">"+db4, "8000", db4, "8000", "127.0.0.1", "8000", "127.0.0.1>127.0.0.1", "8000", "127.0.0.1>"+db4, "8000")
	want := []string{"EACCES", "EACCES", "EACCES", "EACCES", "EACCES", evil4, evil4, evil4, evil4}
	if !equalLines(got, want) {
		t.Errorf("evil's calls: %q; want %q", got, want)
	}
	out, _ := h.RunAs(t, "", testhost.Python(), "-c", askPeer, web4+">127.0.0.1", "8000", web4+">"+db4, "8000")
	if got := strings.Fields(out); !equalLines(got, []string{"EACCES", "EACCES"}) {
		t.Errorf("a program that is no service: %q", out)
	}
	for _, line := range ask(t, h, "db", "127.0.0.1", "8000") { // a service's call of itself is no call of the mesh
		if line != "127.0.0.1" {
			t.Errorf("db sees itself as %s", line)
		}
	}
}

// TestLocalhostIsTrusted by a program: no caller of the mesh is taken for it.
func TestLocalhostIsTrusted(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db", "web"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	servePeer(t, host2, "db", "trust", "127.0.0.1", 8000)
	for _, h := range m.Nodes {
		h.Tacit(t, "service", "register", "web")
	}
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	for _, h := range m.Nodes {
		testhost.Eventually(t, 10*time.Second, "db is known on "+h.Name, func() error { return succeeded(h.TryTacit(t, "service", "show", "db")) })
		v4, v6 := virtuals(t, h, "db")
		want := []string{"not trusted", "not trusted", "not trusted", "not trusted"}
		if got := ask(t, h, "web", v4, "8000", v6, "8000", "127.0.0.1>"+v4, "8000", "::1>"+v6, "8000"); !equalLines(got, want) {
			t.Errorf("web on %s: %q", h.Name, got)
		}
	}
	if got := ask(t, host2, "web", "127.0.0.1", "8000", "127.0.0.1>127.0.0.1", "8000", "::1", "8000", "0.0.0.0", "8000"); !equalLines(got, []string{"not trusted", "not trusted", "not trusted", "not trusted"}) {
		t.Errorf("web by the program's own port: %q", got)
	}
	if got := ask(t, host2, "db", "127.0.0.1", "8000"); !equalLines(got, []string{"trusted"}) {
		t.Errorf("db itself: %q", got)
	}
}

// TestClientAddress: what a definition asks for, the program sees.
func TestClientAddress(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"plain", "headed", "own", "web"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	servePeer(t, host2, "own", "plain", "127.0.0.1", 8003, "--client-address", "client")
	servePeer(t, host2, "plain", "plain", "127.0.0.1", 8001, "--client-address", "loopback")
	servePeer(t, host2, "headed", "proxy", "127.0.0.1", 8002, "--client-address", "proxy_protocol")
	for _, h := range m.Nodes {
		h.Tacit(t, "service", "register", "web")
	}
	for _, name := range []string{"plain", "headed", "own"} {
		host1.Tacit(t, "intention", "allow", "web", name, "--wait")
	}
	box := host1.Container(t, "box")
	host1.Tacit(t, "service", "register", "web", "--id", "boxed", "--cgroup", box.CgroupPath("app"))
	web4, _ := virtuals(t, host2, "web")
	for _, h := range m.Nodes {
		testhost.Eventually(t, 10*time.Second, "web is known on "+h.Name, func() error { return succeeded(h.TryTacit(t, "service", "show", "headed")) })
		plain4, _ := virtuals(t, h, "plain")
		headed4, _ := virtuals(t, h, "headed")
		targets := []string{plain4, "8001", headed4, "8002"}
		want := []string{"127.0.0.1", web4 + " " + web4 + " 0xe0 spiffe://"}
		if h == host2 {
			targets = append(targets, "127.0.0.1", "8001", "127.0.0.1", "8002")
			want = append(want, want...)
		}
		got := ask(t, h, "web", targets...)
		for i := range want {
			if i >= len(got) || !strings.HasPrefix(got[i], want[i]) || strings.Contains(want[i], "spiffe") && !strings.HasSuffix(got[i], "/svc/web hello") {
				t.Errorf("%s: %q; want %q", h.Name, got, want)
				break
			}
		}
	}
	headed4, _ := virtuals(t, host1, "headed")
	out, _ := box.Run(t, "app", testhost.Python(), "-c", askPeer, headed4, "8002")
	if words := strings.Fields(out); len(words) < 2 || words[0] != web4 || netip.MustParseAddr(words[1]) != box.Addr {
		t.Errorf("from a container: %s; want the container's own address %s in the header", out, box.Addr)
	}
	own4, _ := virtuals(t, host1, "own")
	out, _ = box.Run(t, "app", testhost.Python(), "-c", askPeer, own4, "8003")
	if got := append(strings.Fields(out), ask(t, host1, "web", own4, "8003")...); !equalLines(got, []string{box.Addr.String(), host1.Addr.String()}) {
		t.Errorf("a container and host1 are seen as %q; want their own addresses", got)
	}
	own4, _ = virtuals(t, host2, "own")
	if got := ask(t, host2, "web", own4, "8003", "127.0.0.1", "8003"); !equalLines(got, []string{web4, web4}) {
		t.Errorf("on the same node: %q; want %s, as it has no address of its own there", got, web4)
	}
	if got := ask(t, host2, "own", "127.0.0.1", "8003"); !equalLines(got, []string{"127.0.0.1"}) {
		t.Errorf("own sees itself as %q", got)
	}
	host1.Tacit(t, "intention", "deny", "web", "own", "--wait")
	own4, _ = virtuals(t, host1, "own")
	if got := ask(t, host1, "web", own4, "8003"); !equalLines(got, []string{"ECONNREFUSED"}) {
		t.Errorf("denied: %q", got)
	}
	host2.Tacit(t, "service", "deregister", "own")
	testhost.Eventually(t, 10*time.Second, "the rule goes with the service", func() error {
		if out, _ := host2.Run(t, "user", "ip", "rule"); strings.Contains(out, "sport 8003") {
			return errors.New(out)
		}
		return nil
	})
}

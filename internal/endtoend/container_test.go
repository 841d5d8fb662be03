// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/internal/testhost"
)

// containerID is that of the container in TestContainer, by its cgroup's name.
const containerID = "0123456789ab"

// boxed is a service db in a container of host2, which forwards: whoever has a route
// reaches the container's own address.
type boxed struct {
	*testhost.Mesh
	host1, host2   *testhost.Host
	box, neighbour *testhost.Host
	program        *testhost.Process
}

func newBoxed(t *testing.T) *boxed {
	t.Helper()
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db", "web", "neighbour"}})
	b := &boxed{Mesh: m, host1: m.Nodes[0], host2: m.Nodes[1]}
	b.box, b.neighbour = b.host2.Container(t, "docker-"+containerID+".scope"), b.host2.Container(t, "neighbour")
	testhost.Must(t, b.host2.Sysctl("net/ipv4/ip_forward", "1"))
	for _, box := range []*testhost.Host{b.box, b.neighbour} {
		b.host1.Sh(t, fmt.Sprintf("ip route add %s via %s", box.Addr, b.host2.Addr))
	}
	for _, name := range []string{"web", "neighbour"} {
		b.host2.Tacit(t, "service", "register", name)
	}
	b.host2.Tacit(t, "service", "register", "neighbour", "--cgroup", b.neighbour.CgroupPath("app"))
	b.host2.Tacit(t, "service", "register", "db", "--port", "5432", "--container", containerID)
	return b
}

// serve starts the program in the container and waits until everybody knows.
func (b *boxed) serve(t *testing.T, bind string) {
	t.Helper()
	b.program = b.box.Start(t, "", testhost.Python(), "-c", answerPeer, "plain", bind, "5432")
	b.known(t, true)
}

func (b *boxed) end(t *testing.T) {
	t.Helper()
	b.program.Signal(syscall.SIGKILL)
	<-b.program.Ended()
	b.known(t, false)
}

// known waits until both nodes' maps say that db can be called, or can't.
func (b *boxed) known(t *testing.T, served bool) {
	t.Helper()
	testhost.Eventually(t, 10*time.Second, fmt.Sprintf("db is served: %t", served), func() error {
		for _, h := range b.Nodes {
			if _, elsewhere := h.Serves(t, 5432); elsewhere != served {
				return fmt.Errorf("%s: %t", h.Name, elsewhere)
			}
		}
		return nil
	})
}

// plain is what becomes of a plain connection to the container's own address.
func (b *boxed) plain(t *testing.T, from *testhost.Host) string {
	t.Helper()
	out, _ := from.Run(t, "plain", testhost.Python(), "-c", strings.ReplaceAll(askPeer, "settimeout(10)", "settimeout(1)"), b.box.Addr.String(), "5432")
	return strings.TrimSpace(out)
}

// closed fails the test where a plain connection gets through: the connect hook
// refuses programs of the node, and packets from elsewhere get no answer.
func (b *boxed) closed(t *testing.T, when string) {
	t.Helper()
	for _, c := range []struct {
		from *testhost.Host
		want string
	}{{b.host1, "timed out"}, {b.host2, "ECONNREFUSED"}, {b.neighbour, "ECONNREFUSED"}} {
		if out := b.plain(t, c.from); out != c.want {
			t.Errorf("%s: a plain connection from %s: %s, want %s", when, c.from.Name, out, c.want)
		}
	}
}

// TestContainer: a service in a container that publishes no port is found, called by
// its name from everywhere, sees who calls, and is closed to everything else.
func TestContainer(t *testing.T) {
	b := newBoxed(t)
	leaks := b.box.Leaks(t)
	web := func(h *testhost.Host) string { return ask(t, h, "web", "db", "5432")[0] }
	neighbour := func() string {
		out, _ := b.neighbour.Run(t, "app", testhost.Python(), "-c", askPeer, "db", "5432")
		return strings.TrimSpace(out)
	}
	for _, name := range []string{"web", "neighbour"} {
		if name == "web" {
			b.host1.Tacit(t, "service", "register", name)
		}
		b.host1.Tacit(t, "intention", "allow", name, "db", "--wait")
	}
	for _, c := range []struct{ bind, family string }{
		{"127.0.0.1", "4"}, {"0.0.0.0", "4"}, {"::", "mapped"}, {b.box.Addr.String(), "4"}, {"::1", "6"},
	} {
		b.serve(t, c.bind)
		for _, call := range []struct {
			name, source string
			do           func() string
		}{
			{"another node", "web", func() string { return web(b.host1) }},
			{"the same node", "web", func() string { return web(b.host2) }},
			{"another container", "neighbour", neighbour},
		} {
			v4, v6 := virtuals(t, b.host2, call.source)
			want := map[string]string{"4": v4, "mapped": "::ffff:" + v4, "6": v6}[c.family]
			testhost.Eventually(t, 5*time.Second, "the call from "+call.name, func() error {
				if out := call.do(); out != want {
					return fmt.Errorf("on %s, called from %s: the program saw %s, want %s", c.bind, call.name, out, want)
				}
				return nil
			})
		}
		if c.bind == "0.0.0.0" {
			b.closed(t, "served")
			v4, _ := virtuals(t, b.host2, "web")
			if out := ask(t, b.host2, "web", b.box.Addr.String(), "5432")[0]; out != v4 {
				t.Errorf("allowed, by the container's own address: the program saw %s, want %s", out, v4)
			}
			b.host1.Tacit(t, "intention", "deny", "web", "db", "--wait")
			if out := web(b.host2); out != "ECONNREFUSED" {
				t.Errorf("denied on the same node: %s", out)
			}
			b.host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
		}
		b.end(t)
		if out := web(b.host1); out != "ECONNREFUSED" {
			t.Errorf("after its end: %s", out)
		}
	}
	for _, h := range b.Nodes {
		out := h.Tacit(t, "service", "show", "db")
		if !strings.Contains(out, "container "+containerID+":5432") {
			t.Errorf("%s doesn't say where db is:\n%s", h.Name, out)
		}
	}
	leaks()
}

// TestContainerStaysClosed: without the daemon, and for a container that starts again
// in a new network namespace.
func TestContainerStaysClosed(t *testing.T) {
	b := newBoxed(t)
	b.host1.Tacit(t, "service", "register", "web")
	b.host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	b.serve(t, "0.0.0.0")
	b.closed(t, "with the daemon")
	b.host2.Kill(t)
	b.closed(t, "without the daemon")
	b.host2.Daemon(t)
	b.known(t, true)
	b.end(t)
	b.restart(t)
	b.serve(t, "127.0.0.1")
	if out := ask(t, b.host1, "web", "db", "5432")[0]; !strings.HasPrefix(out, "240.") {
		t.Errorf("after a restart: %s", out)
	}
	b.end(t)
	b.serve(t, "0.0.0.0")
	b.closed(t, "after a restart")
}

// restart gives the container a new cgroup of the same name and a new network
// namespace, as an engine does.
func (b *boxed) restart(t *testing.T) {
	t.Helper()
	testhost.Eventually(t, 5*time.Second, "the container's cgroup is empty", func() error { return unix.Rmdir(b.box.Cgroup) })
	again := b.host2.Container(t, "again")
	again.Cgroup, b.box = b.box.Cgroup, again
	b.host1.Sh(t, fmt.Sprintf("ip route add %s via %s", again.Addr, b.host2.Addr))
}

// TestContainersWithOnePort: two containers of a node and a named network namespace
// are three instances with one port, and the host keeps that port for itself.
func TestContainersWithOnePort(t *testing.T) {
	b := newBoxed(t)
	host := b.host2
	b.host1.Tacit(t, "service", "register", "web")
	b.host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	b.serve(t, "127.0.0.1")
	second, named := host.Container(t, "docker-ba9876543210.scope"), host.Container(t, "named")
	second.Start(t, "", testhost.Python(), "-c", answerPeer, "trust", "0.0.0.0", "5432")
	third := named.Start(t, "", testhost.Python(), "-c", answerPeer, "proxy", "127.0.0.1", "5432")
	testhost.WriteFile(t, filepath.Join(host.Services, "db-2.hcl"), `service {
  name = "db"
  id = "db-2"
  port = 5432
  workload { container = "ba9876543210" }
  check { tcp = "localhost:5432" interval = "1s" }
}`)
	host.Tacit(t, "service", "register", "db", "--id", "db-3", "--port", "5432", "--netns", fmt.Sprintf("/proc/%d/ns/net", third.PID()), "--client-address", "proxy_protocol")
	testhost.Eventually(t, 10*time.Second, "three instances are healthy", func() error {
		out := b.host1.Tacit(t, "service", "show", "db")
		if n := strings.Count(out, "  yes  "); n != 3 {
			return fmt.Errorf("%d of 3:\n%s", n, out)
		}
		if out := host.Tacit(t, "service", "show", "db", "--json"); !strings.Contains(out, `"passing"`) {
			return fmt.Errorf("the check in the container: %s", out)
		}
		return nil
	})
	v4, _ := virtuals(t, host, "web")
	testhost.Eventually(t, 10*time.Second, "each instance is called", func() error {
		answers := map[string]bool{}
		for range 12 {
			answers[ask(t, b.host1, "web", "db", "5432")[0]] = true
		}
		proxied := v4 + " " + v4 + " 0xe0 spiffe://tacit.local/svc/web hello"
		if len(answers) != 3 || !answers[v4] || !answers["not trusted"] || !answers[proxied] {
			return fmt.Errorf("the programs saw %v; want %s, %s, and one that doesn't trust its caller", answers, v4, proxied)
		}
		return nil
	})
	host.Start(t, "", testhost.Python(), "-c", answerPeer, "plain", "0.0.0.0", "5432")
	host.AwaitListener(t, 5432)
	out, _ := b.host1.Run(t, "plain", testhost.Python(), "-c", askPeer, host.Addr.String(), "5432")
	if strings.TrimSpace(out) != b.host1.Addr.String() {
		t.Errorf("the host's own program on that port: %s", out)
	}
}

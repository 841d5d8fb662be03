// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestLimits: where a kernel map is full, new entries are refused and status says
// so; existing ones keep working, and nothing becomes reachable.
func TestLimits(t *testing.T) {
	const room = 64
	m := testhost.NewMesh(t, testhost.MeshOptions{First: []string{
		"--max-intentions", fmt.Sprint(room), "--max-workloads", fmt.Sprint(room), "--max-connecting", fmt.Sprint(room)}})
	h := m.Nodes[0]
	webServer(t, h, "service-B", "127.0.0.1", 80, "Hello World")
	define(t, m.Nodes, h, "service-b", serviceB)
	h.MakeWorkload(t, "service-A")
	h.Tacit(t, "intention", "allow", "service-A", "service-B", "--wait")
	becomesReachable(t, h, "service-A", "http://service-B/")

	allowed := 0
	for i := range room {
		out, exit := h.TryTacit(t, "intention", "allow", fmt.Sprintf("other-%d", i), "service-B")
		if exit == 0 {
			allowed++
			continue
		}
		if exit != 1 || !strings.Contains(out, "64 of 64 intentions are in use") || !strings.Contains(out, "--max-intentions") {
			t.Errorf("one too many: exit %d, %s", exit, out)
		}
	}
	if list := h.Tacit(t, "intention", "list"); allowed >= room || strings.Count(list, "other-") != allowed {
		t.Errorf("%d were allowed, and these are listed:\n%s", allowed, list)
	}
	statusSays(t, h, "64 of 64 intentions")
	answers(t, h, "service-A", "http://service-B/", "Hello World")
	h.Tacit(t, "intention", "deny", "service-A", "service-B") // a deny always fits
	testhost.Eventually(t, 10*time.Second, "the deny is in force", func() error {
		if out, exit := curl(t, h, "service-A", "http://service-B/"); exit != 7 {
			return fmt.Errorf("exit %d, %s", exit, out)
		}
		return nil
	})
	for i := range allowed {
		h.Tacit(t, "intention", "delete", fmt.Sprintf("other-%d", i), "service-B")
	}
	h.Tacit(t, "intention", "allow", "service-A", "service-B", "--wait")

	for i := range room {
		h.MakeWorkload(t, fmt.Sprintf("late-%d", i))
	}
	statusSays(t, h, "64 of 64 workloads")
	answers(t, h, "service-A", "http://service-B/", "Hello World")
	answered := 0
	for i := range room {
		out, _ := curl(t, h, fmt.Sprintf("late-%d", i), "http://service-B/")
		answered += strings.Count(out, "Hello World")
	}
	if answered > 0 {
		t.Errorf("%d workloads that nobody allows were answered", answered)
	}
}

// connects begins connections to an address, each with its own socket, prints
// the errno of the last one and keeps them open.
const connects = `
import signal, socket, sys
held, said = [], "none"
for _ in range(int(sys.argv[2])):
    s = socket.socket()
    s.setblocking(False)
    said = s.connect_ex((sys.argv[1], 80))
    held.append(s)
print(said, flush=True)
signal.pause()
`

// TestConnectingLimit: a workload whose connections are never established uses up
// its own share of connections in progress and not another's; it gets the share
// back when its sockets are closed.
func TestConnectingLimit(t *testing.T) {
	const room, share = 64, 16
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, First: []string{"--max-connecting", fmt.Sprint(room)}, Grants: []string{"service-B"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	define(t, m.Nodes, host2, "service-b", serviceB)
	webServer(t, host2, "service-B", "127.0.0.1", 80, "Hello World")
	deaf, box := host1.Container(t, "deaf"), host1.Container(t, "box")
	for name, c := range map[string]*testhost.Host{"deaf": deaf, "other": box} {
		host1.Tacit(t, "service", "register", name, "--cgroup", c.CgroupPath("app"))
		host1.Tacit(t, "intention", "allow", name, "service-B", "--wait")
		testhost.Eventually(t, 10*time.Second, name+" is answered", func() error {
			return succeeded(c.Run(t, "app", "curl", "-sS", "--max-time", "10", "http://service-B/"))
		})
	}
	target, _ := host1.Virtual(t, "service-b")
	host1.Sh(t, "iptables -t raw -I PREROUTING -i box1 -p tcp -j DROP") // no SYN of deaf arrives
	hold := func(n int, want string) *testhost.Process {
		t.Helper()
		p := deaf.Start(t, "app", testhost.Python(), "-c", connects, target.String(), fmt.Sprint(n))
		testhost.Eventually(t, 10*time.Second, "the connections have begun", func() error {
			if out := strings.TrimSpace(p.Output()); out != want {
				return fmt.Errorf("%q, want %s", out, want)
			}
			return nil
		})
		return p
	}
	p := hold(share+1, "111") // ECONNREFUSED
	statusSays(t, host1, "16 of 16 connections of deaf on their way")
	if flows := host1.Tacit(t, "flows"); !strings.Contains(flows, "limit") {
		t.Errorf("no refusal for the limit:\n%s", flows)
	}
	if out, exit := box.Run(t, "app", "curl", "-sS", "--max-time", "10", "http://service-B/"); exit != 0 {
		t.Errorf("another workload: %s", out)
	}
	p.Signal(syscall.SIGKILL)
	<-p.Ended()
	hold(share, "115") // EINPROGRESS
}

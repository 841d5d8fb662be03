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

// TestLimits: where a map of the kernel is full, what is new is refused and
// status says so; what was there works on, and nothing opens.
func TestLimits(t *testing.T) {
	const room = 64
	m := newMeshWith(t, 1, []string{"--max-intentions", fmt.Sprint(room), "--max-workloads", fmt.Sprint(room), "--max-connecting", fmt.Sprint(room)})
	h := m.hosts[0]
	m.web(h, "service-B", "127.0.0.1", 80, "Hello World")
	m.define(h, "service-b", serviceB)
	m.tacit(h, "run", "service-A", "--", "true")
	m.tacit(h, "intention", "allow", "service-A", "service-B", "--wait")
	testhost.Eventually(t, 10*time.Second, "service-B answers", func() error { return expect0(m.curl(h, "service-A", "http://service-B/")) })

	for i := range room {
		m.tacit(h, "intention", "allow", fmt.Sprintf("other-%d", i), "service-B")
	}
	m.says(h, "64 of 64 intentions")
	m.answers(h, "service-A", "http://service-B/", "Hello World")
	m.tacit(h, "intention", "deny", "service-A", "service-B") // a deny always fits
	testhost.Eventually(t, 10*time.Second, "the deny is in force", func() error {
		if out, exit := m.curl(h, "service-A", "http://service-B/"); exit != 7 {
			return fmt.Errorf("exit %d, %s", exit, out)
		}
		return nil
	})
	for i := range room {
		m.tacit(h, "intention", "delete", fmt.Sprintf("other-%d", i), "service-B")
	}
	m.tacit(h, "intention", "allow", "service-A", "service-B", "--wait")

	for i := range room {
		m.tacit(h, "run", fmt.Sprintf("late-%d", i), "--", "true")
	}
	m.says(h, "64 of 64 workloads")
	m.answers(h, "service-A", "http://service-B/", "Hello World")
	refused := 0
	for i := range room {
		out, _ := m.curl(h, fmt.Sprintf("late-%d", i), "http://service-B/")
		refused += strings.Count(out, "Hello World")
	}
	if refused > 0 {
		t.Errorf("%d workloads that nobody allows were answered", refused)
	}
}

// connects opens connections to the target, each with its own socket, and says
// what the last one met; then it waits.
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

// TestConnectingLimit: a workload whose connections nobody accepts uses up its
// own share of those on their way, not another's; with them it gets it back.
func TestConnectingLimit(t *testing.T) {
	const room, share = 64, 16
	m := newMeshWith(t, 2, []string{"--max-connecting", fmt.Sprint(room)}, []string{"service-B"})
	host1, host2 := m.hosts[0], m.hosts[1]
	m.define(host2, "service-b", serviceB)
	m.web(host2, "service-B", "127.0.0.1", 80, "Hello World")
	deaf, box := host1.Container(t, "deaf"), host1.Container(t, "box")
	for name, c := range map[string]*testhost.Host{"deaf": deaf, "other": box} {
		m.tacit(host1, "service", "register", name, "--cgroup", c.CgroupPath("app"))
		m.tacit(host1, "intention", "allow", name, "service-B", "--wait")
		testhost.Eventually(t, 10*time.Second, name+" is answered", func() error {
			return expect0(c.Run(t, "app", "curl", "-sS", "--max-time", "10", "http://service-B/"))
		})
	}
	target := virtualOf(t, m.tacit(host1, "resolve", "service-b", "--json"))
	host1.Run(t, "", "sh", "-ec", "iptables -t raw -I PREROUTING -i box1 -p tcp -j DROP") // no SYN of deaf arrives
	hold := func(n int, want string) *testhost.Process {
		t.Helper()
		p := deaf.Start(t, "app", testhost.Python(), "-c", connects, target, fmt.Sprint(n))
		testhost.Eventually(t, 10*time.Second, "the connections are begun", func() error {
			if out := strings.TrimSpace(p.Output()); out != want {
				return fmt.Errorf("%q, want %s", out, want)
			}
			return nil
		})
		return p
	}
	p := hold(share+1, "111") // ECONNREFUSED
	m.says(host1, "16 of 16 connections of deaf on their way")
	if flows := m.tacit(host1, "flows"); !strings.Contains(flows, "limit") {
		t.Errorf("no refusal for the limit:\n%s", flows)
	}
	if out, exit := box.Run(t, "app", "curl", "-sS", "--max-time", "10", "http://service-B/"); exit != 0 {
		t.Errorf("another workload: %s", out)
	}
	p.Signal(syscall.SIGKILL)
	<-p.Ended()
	hold(share, "115") // EINPROGRESS
}

// says waits until status reports something, and isn't content.
func (m *mesh) says(h *testhost.Host, want string) {
	m.t.Helper()
	testhost.Eventually(m.t, 20*time.Second, "status says "+want, func() error {
		if out, exit := h.Tacit(m.t, "status"); exit != 1 || !strings.Contains(out, want) {
			return fmt.Errorf("exit %d\n%s", exit, out)
		}
		return nil
	})
}

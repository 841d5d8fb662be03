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

// TestFailover: with two instances and a call every 10 ms, the loss of one costs
// at most one call, and none takes longer than 1.5 s.
func TestFailover(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3, Grants: []string{"db"}})
	host1, host2, host3 := m.Nodes[0], m.Nodes[1], m.Nodes[2]
	start := func(h *testhost.Host) *testhost.Process {
		p := h.StartAs(t, "db", h.Bin("probe"), "listen", "0.0.0.0:7000")
		h.AwaitListener(t, 7000)
		return p
	}
	program := start(host2)
	start(host3)
	for _, h := range []*testhost.Host{host2, host3} {
		h.Tacit(t, "service", "register", "db", "--port", "7000")
	}
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	virtual, _ := host1.Virtual(t, "db")
	addr := fmt.Sprintf("%s:7000", virtual)

	for _, tc := range []struct {
		name       string
		fail       func()
		afterwards func()
	}{
		{"program killed", func() { program.Signal(syscall.SIGKILL) }, func() { program = start(host2) }},
		{"daemon and program stopped", func() {
			host2.Current(t).Signal(syscall.SIGSTOP)
			program.Signal(syscall.SIGSTOP)
		}, func() {
			program.Signal(syscall.SIGCONT)
			host2.Current(t).Signal(syscall.SIGCONT)
		}},
		{"link down", func() { host2.Sh(t, "ip link set eth0 down") }, func() {
			host2.Sh(t, "ip link set eth0 up")
		}},
		{"packets dropped", func() { host2.Sh(t, "iptables -w -I INPUT -i eth0 -j DROP") }, func() {
			host2.Sh(t, "iptables -w -D INPUT -i eth0 -j DROP")
		}},
		{"daemon killed", func() { host2.Kill(t) }, func() { host2.Daemon(t) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bothServe(t, host1, addr, program)
			caller := host1.StartAs(t, "web", host1.Bin("probe"), "echo-calls", addr, "10", "6")
			<-time.After(1500 * time.Millisecond) // what fails, fails in the middle
			tc.fail()
			if exit := caller.Wait(t, 30*time.Second); exit != 0 {
				t.Fatalf("exit %d: %s", exit, caller.Output())
			}
			tc.afterwards()
			var calls, failed, slowest int
			out := caller.Output()
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if _, err := fmt.Sscanf(lines[len(lines)-1], "calls=%d failed=%d slowest=%dms", &calls, &failed, &slowest); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Logf("%d calls, %d failed, the slowest took %d ms", calls, failed, slowest)
			if calls < 300 || failed > 1 || slowest > 1500 {
				t.Errorf("%s", out)
			}
		})
	}
}

// bothServe waits until all nodes are alive again and a program, one of two
// instances, gets its share of calls.
func bothServe(t *testing.T, caller *testhost.Host, addr string, program *testhost.Process) {
	t.Helper()
	testhost.Eventually(t, 60*time.Second, "both instances serve", func() error {
		out := caller.Tacit(t, "nodes", "--json")
		if alive := strings.Count(out, `"alive": true`); alive != 3 {
			return fmt.Errorf("%d nodes alive", alive)
		}
		before := strings.Count(program.Output(), "accepted")
		if out, exit := caller.RunAs(t, "web", caller.Bin("probe"), "echo-calls", addr, "20", "1"); exit != 0 || !strings.Contains(out, "failed=0") {
			return fmt.Errorf("%s", out)
		}
		if got := strings.Count(program.Output(), "accepted") - before; got < 15 {
			return fmt.Errorf("%d of 50 calls came to one of two instances", got)
		}
		return nil
	})
}

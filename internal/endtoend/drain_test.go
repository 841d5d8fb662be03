// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestDeregisteredInstanceDrains: a deregistered instance keeps its connections,
// from this node and from others, and gets no new one.
func TestDeregisteredInstanceDrains(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3, Grants: []string{"db", "web"}})
	host1, host2, host3 := m.Nodes[0], m.Nodes[1], m.Nodes[2]
	for _, h := range []*testhost.Host{host2, host3} {
		h.StartAs(t, "db", h.Bin("probe"), "listen", "0.0.0.0:7000", h.Name)
		h.AwaitListener(t, 7000)
		h.Tacit(t, "service", "register", "db", "--port", "7000")
	}
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	// Each caller prints the banner, and then a line for every line that comes back.
	const talk = `exec 3<>/dev/tcp/$0/7000; read -N5 -u3 name; echo "$name"; while sleep .05; do echo ping >&3 && read -t5 -u3 x || exit 1; echo "$x"; done`
	var callers []*testhost.Process
	for _, h := range []*testhost.Host{host1, host1, host1, host1, host1, host1, host2} {
		virtual, _ := h.Virtual(t, "db")
		p := h.StartAs(t, "web", "bash", "-c", talk, virtual.String())
		talks(t, p, 3)
		callers = append(callers, p)
	}
	kept := 0
	host2.Tacit(t, "service", "deregister", "db")
	testhost.Eventually(t, 5*time.Second, "host1 knows one instance", func() error {
		if out := host1.Tacit(t, "service", "show", "db", "--json"); strings.Contains(out, "host2") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	for i, p := range callers {
		if strings.HasPrefix(p.Output(), "host2") {
			kept++
		}
		talks(t, p, strings.Count(p.Output(), "ping")+20)
		select {
		case <-p.Ended():
			t.Errorf("caller %d was cut: %s", i, p.Output())
		default:
		}
	}
	if kept < 2 {
		t.Errorf("%d callers were connected to host2, want some from each node", kept)
	}
	virtual, _ := host1.Virtual(t, "db")
	for range 10 {
		p := host1.StartAs(t, "web", "bash", "-c", talk, virtual.String())
		talks(t, p, 1)
		if !strings.HasPrefix(p.Output(), "host3") {
			t.Errorf("a new connection went to a deregistered instance: %s", p.Output())
		}
	}
}

// talks waits until a caller has had n answers.
func talks(t *testing.T, p *testhost.Process, n int) {
	t.Helper()
	testhost.Eventually(t, 10*time.Second, fmt.Sprintf("%d answers", n), func() error {
		if got := strings.Count(p.Output(), "ping"); got < n {
			return fmt.Errorf("%d answers: %.200s", got, p.Output())
		}
		return nil
	})
}

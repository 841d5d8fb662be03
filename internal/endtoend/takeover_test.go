// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestPortTakenOver: while another node calls without a pause, the workload's listener is
// closed, and a foreign program that has the port bound listens at once, of which no hook
// hears. The daemon, which dials the listener that it knows, reaches it never, and refuses
// with the reason that a look finds. Listeners that share a port are reached as before.
func TestPortTakenOver(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	script, err := filepath.Abs("testdata/takeover.py")
	testhost.Must(t, err)
	run := func(h *testhost.Host, as, says string, words ...string) *testhost.Process {
		p := h.StartAs(t, as, testhost.Python(), append([]string{script}, words...)...)
		testhost.AwaitText(t, 10*time.Second, strings.Join(words, " "), says, p.Output)
		return p
	}
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	for round := 0; ; round++ {
		squatter := run(host2, "", "bound", "squat", "8000") // no port is guarded yet
		server := run(host2, "db", "serving", "serve", "8000")
		host2.Tacit(t, "service", "register", "db", "--port", "8000")
		v4, _ := host1.Virtual(t, "db")
		caller := run(host1, "web", "db\n", "call", v4.String(), "8000")
		squatter.Signal(syscall.SIGUSR1)
		server.Signal(syscall.SIGKILL)
		testhost.AwaitText(t, 10*time.Second, "the squatter", "listening", squatter.Output)
		testhost.AwaitText(t, 10*time.Second, "what the node knows", "foreign", func() string { return host2.Tacit(t, "service", "show", "db") })
		end(caller, squatter)
		if strings.Contains(squatter.Output(), "accepted") || strings.Contains(caller.Output(), "stolen") {
			t.Fatal("the foreign program was reached")
		}
		host2.Tacit(t, "service", "deregister", "db")
		out := host2.Tacit(t, "flows")
		if err := contains(out, "listener"); err == nil {
			break
		} else if round == 4 { // the callers' node may have heard before any call came
			t.Fatal(err)
		}
	}
	host2.Tacit(t, "service", "register", "db", "--port", "8000")
	run(host2, "db", "serving", "shared", "8000")
	v4, _ := host1.Virtual(t, "db")
	caller := run(host1, "web", "db\n", "call", v4.String(), "8000")
	end(caller)
}

// end kills programs, and waits until they are gone.
func end(all ...*testhost.Process) {
	for _, p := range all {
		p.Signal(syscall.SIGKILL)
		<-p.Ended()
	}
}

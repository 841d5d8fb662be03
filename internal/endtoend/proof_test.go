// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestWaitCountsEveryMember: --wait counts a member whose daemon was killed, names it
// and says since when; --live counts the others. What something else writes into a
// node's maps withdraws its announcement within 5 s, until it is put right; where it
// can't be, --wait names the node, and status says why.
func TestWaitCountsEveryMember(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3})
	host1, host2, host3 := m.Nodes[0], m.Nodes[1], m.Nodes[2]
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	host3.Kill(t)

	out, exit := host1.TryTacit(t, "intention", "deny", "web", "db", "--live", "--timeout", "20s")
	if exit != 0 || !strings.Contains(out, "in force on 2 of 2 living nodes") || !strings.Contains(out, "1 member not reached: host3 (no answer since ") {
		t.Errorf("--live: exit %d, %s", exit, out)
	}
	out, exit = host1.TryTacit(t, "intention", "deny", "web", "db", "--wait", "--timeout", "1s")
	if exit != 1 || !strings.Contains(out, "in force on 2 of 3 nodes") || !strings.Contains(out, "not in force on: host3 (no answer since ") {
		t.Errorf("--wait: exit %d, %s", exit, out)
	}
	out, exit = host1.TryTacit(t, "service", "register", "new", "--port", "80", "--wait", "--timeout", "1s")
	if exit != 1 || !strings.Contains(out, "resolves on 2 of 3 nodes") || !strings.Contains(out, "host3 (no answer since ") {
		t.Errorf("register --wait: exit %d, %s", exit, out)
	}

	says := func(want string) func() error {
		return func() error {
			out := host1.Tacit(t, "intention", "explain", "web", "db")
			for line := range strings.Lines(out) {
				if f := strings.Fields(line); len(f) > 1 && f[0] == "host2" && f[1] == want {
					return nil
				}
			}
			return fmt.Errorf("host2 isn't %q on host1: %s", want, out)
		}
	}
	host2.Empty(t, "intentions")
	testhost.AwaitText(t, 20*time.Second, "the repair", "repaired map intentions", func() string {
		out, _ := host2.TryTacit(t, "status")
		return out
	})
	testhost.AwaitText(t, 10*time.Second, "the withdrawal", "this node's policy is announced as not in force", host2.Current(t).Output)
	testhost.Eventually(t, 20*time.Second, "host2 has the policy in force again", says("yes"))

	host2.Empty(t, "intentions")
	host2.Freeze(t, "intentions") // nobody can put it right
	testhost.Eventually(t, 20*time.Second, "host2's announcement is withdrawn", says("no:"))
	if out, exit := host2.TryTacit(t, "status"); exit != 1 || !strings.Contains(out, "revision") || !strings.Contains(out, "operation not permitted") {
		t.Errorf("status of host2: exit %d, %s", exit, out)
	}
	if out, exit := host1.TryTacit(t, "intention", "deny", "web", "db", "--live", "--timeout", "1s"); exit != 1 || !strings.Contains(out, "not in force on: host2") {
		t.Errorf("--live with tampered maps: exit %d, %s", exit, out)
	}
}

// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"strings"
	"testing"
)

// TestWaitRightAfterJoin: a change made while the last node has only just
// joined is in force everywhere at once; no round of gossip is lost.
func TestWaitRightAfterJoin(t *testing.T) {
	m := newMesh(t, 3)
	for _, action := range []string{"allow", "deny", "allow"} {
		out, exit := m.hosts[0].Tacit(t, "intention", action, "web", "db", "--wait", "--timeout", "5s")
		if exit != 0 || !strings.Contains(out, "in force on 3 of 3 nodes") {
			for _, h := range m.hosts {
				nodes, _ := h.Tacit(t, "nodes")
				t.Logf("%s:\n%s", h.Name, nodes)
			}
			t.Fatalf("%s --wait: exit %d, %s", action, exit, out)
		}
	}
}

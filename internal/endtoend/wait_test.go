// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"strings"
	"tacit/internal/testhost"
	"testing"
)

// TestWaitRightAfterJoin: an intention changed right after a node has joined is in
// force on every node within seconds, so that no round of gossip is lost.
func TestWaitRightAfterJoin(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3})
	for _, action := range []string{"allow", "deny", "allow"} {
		out, exit := m.Nodes[0].TryTacit(t, "intention", action, "web", "db", "--wait", "--timeout", "5s")
		if exit != 0 || !strings.Contains(out, "in force on 3 of 3 nodes") {
			for _, h := range m.Nodes {
				nodes, _ := h.TryTacit(t, "nodes")
				t.Logf("%s:\n%s", h.Name, nodes)
			}
			t.Fatalf("%s --wait: exit %d, %s", action, exit, out)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"strings"
	"tacit/internal/testhost"
	"testing"
)

// TestRegisterWait: with --wait, the name works on every node when the command
// returns, though it was asked for before.
func TestRegisterWait(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3})
	look := func(h *testhost.Host, name string) bool {
		out, _ := h.Run(t, "app", "getent", "ahostsv4", name)
		return strings.HasPrefix(out, "240.64.")
	}
	for _, name := range []string{"new", "late", "later"} {
		for _, h := range m.Nodes {
			if look(h, name+".mesh") {
				t.Fatalf("%s resolves already", name)
			}
		}
		out, exit := m.Nodes[0].TryTacit(t, "service", "register", name, "--cgroup", "/"+name, "--port", fmt.Sprint(8000+len(name)), "--wait", "--timeout", "5s")
		if exit != 0 || !strings.Contains(out, "resolves on 3 of 3 nodes") {
			t.Fatalf("exit %d: %s", exit, out)
		}
		for _, h := range m.Nodes {
			if !look(h, name+".mesh") || !look(h, name) {
				t.Errorf("%s doesn't resolve on %s: %s", name, h.Name, out)
			}
		}
		t.Log(out)
	}
}

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

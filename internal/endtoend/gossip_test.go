// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// alive names the nodes that answer, as a host sees it.
func alive(t *testing.T, h *testhost.Host) string {
	t.Helper()
	var out struct {
		Nodes []struct {
			Name  string `json:"name"`
			Alive bool   `json:"alive"`
		} `json:"nodes"`
	}
	testhost.Must(t, json.Unmarshal([]byte(h.Tacit(t, "nodes", "--json")), &out))
	var names []string
	for _, n := range out.Nodes {
		if n.Alive {
			names = append(names, n.Name)
		}
	}
	return strings.Join(names, " ")
}

func sees(t *testing.T, h *testhost.Host, want string) {
	t.Helper()
	testhost.Eventually(t, 10*time.Second, h.Name+" sees "+want, func() error {
		if got := alive(t, h); got != want {
			return fmt.Errorf("it sees %q", got)
		}
		return nil
	})
}

// TestRevokedNodeLeavesGossip: within 10 s of a revocation nobody answers the revoked
// node, whose daemon goes on, and it learns nothing more; one that was down meanwhile
// comes back by itself.
func TestRevokedNodeLeavesGossip(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3})
	host1, host2, host3 := m.Nodes[0], m.Nodes[1], m.Nodes[2]
	host2.Stop(t)
	host1.Tacit(t, "node", "revoke", "host3", "--yes")
	testhost.Eventually(t, 10*time.Second, "host3 is alone", func() error {
		if got := alive(t, host3); got != "host3" && got != "" {
			return fmt.Errorf("it sees %s", got)
		}
		return nil
	})
	host2.Daemon(t)
	sees(t, host1, "host1 host2")
	sees(t, host2, "host1 host2")
	host1.Tacit(t, "intention", "allow", "web", "secret", "--wait")
	if got := host3.Tacit(t, "intention", "list"); strings.Contains(got, "secret") {
		t.Errorf("the revoked node learns what is new: %s", got)
	}
}

// TestPartitionHeals: what was signed on one side is on the other at most 10 s after
// both reach each other again.
func TestPartitionHeals(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	host2.Sh(t, "ip link set eth0 down")
	sees(t, host1, "host1")
	sees(t, host2, "host2")
	host1.Tacit(t, "intention", "deny", "web", "db")
	host2.Sh(t, "ip link set eth0 up")
	began := time.Now()
	sees(t, host1, "host1 host2")
	sees(t, host2, "host1 host2")
	testhost.Eventually(t, 10*time.Second, "the denial is on host2", func() error {
		if got := host2.Tacit(t, "intention", "list"); !strings.Contains(got, "deny") {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	t.Logf("healed after %v", time.Since(began))
}

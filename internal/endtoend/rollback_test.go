// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// copyState copies a state folder as a backup does, or brings a copy back.
func copyState(t *testing.T, from, to string) {
	t.Helper()
	testhost.Must(t, os.RemoveAll(to))
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// sameDigest reports whether the nodes have the same policy in force.
func sameDigest(t *testing.T, nodes ...*testhost.Host) error {
	found := map[string]bool{}
	for _, h := range nodes {
		var status struct {
			Digest string `json:"digest"`
		}
		out, _ := h.TryTacit(t, "status", "--json")
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			return err
		}
		found[status.Digest] = true
	}
	if len(found) != 1 {
		return fmt.Errorf("digests %v", found)
	}
	return nil
}

// TestRollBack: the operator's state folder is copied, a deny is signed, the copy is
// restored and a service file added, which has the node sign a grant. The deny is in
// force on both nodes. With TACIT_SOAK=1 in 20 rounds.
func TestRollBack(t *testing.T) {
	rounds := 2
	if os.Getenv("TACIT_SOAK") != "" {
		rounds = 20
	}
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2})
	first, second := m.Nodes[0], m.Nodes[1]
	image := filepath.Join(first.Dir, "image")
	for n := range rounds {
		web, added := fmt.Sprintf("web%d", n), fmt.Sprintf("added%d", n)
		first.Tacit(t, "intention", "allow", web, "secret", "--wait")
		first.Stop(t)
		copyState(t, first.State, image)
		first.Daemon(t)
		first.Tacit(t, "intention", "deny", web, "secret", "--wait")
		first.Kill(t)
		copyState(t, image, first.State)
		testhost.WriteFile(t, filepath.Join(first.Services, added+".hcl"), fmt.Sprintf(`service { name = %q }`, added))
		first.Daemon(t)
		testhost.Eventually(t, 10*time.Second, "both nodes agree, and know the new service", func() error {
			for _, h := range m.Nodes {
				if out, exit := h.TryTacit(t, "service", "show", added); exit != 0 {
					return fmt.Errorf("%s: %s", h.Name, out)
				}
			}
			return sameDigest(t, m.Nodes...)
		})
		for _, h := range m.Nodes {
			if out, exit := h.TryTacit(t, "intention", "check", web, "secret"); exit != 1 {
				t.Fatalf("round %d: the deny is lost on %s: %s", n, h.Name, out)
			}
		}
	}
	if log := first.Current(t).Output(); !strings.Contains(log, "was its disk rolled back?") {
		t.Error("the log doesn't say that the disk was rolled back")
	}

	// While nobody answers, nothing is signed, but with --alone.
	second.Kill(t)
	first.Stop(t)
	first.Daemon(t)
	out, exit := first.TryTacit(t, "intention", "allow", "web0", "secret")
	if exit != 1 || !strings.Contains(out, "no member has been reached since this start") || !strings.Contains(out, "--alone") {
		t.Errorf("exit %d: %s", exit, out)
	}
	first.Stop(t)
	first.Daemon(t, "--alone")
	first.Tacit(t, "intention", "deny", "web1", "alone")
	second.Daemon(t)
	testhost.Eventually(t, 10*time.Second, "the other learns of it", func() error {
		if out, exit := second.TryTacit(t, "intention", "list"); exit != 0 || !strings.Contains(out, "alone") {
			return fmt.Errorf("%s", out)
		}
		return sameDigest(t, m.Nodes...)
	})
}

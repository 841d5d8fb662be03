// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// manyIntentions is a file with n intentions of one caller each, between 100 services.
func manyIntentions(n int, action string) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, "intention {\n  source = \"caller-%d\"\n  destination = \"db-%d\"\n  action = \"%s\"\n}\n", i, i%100, action)
	}
	return out.String()
}

// TestApply: a file of 10,000 intentions, and then of their removal, is in force
// on every node, within ten seconds each in the soak; a transaction that doesn't fit changes nothing.
func TestApply(t *testing.T) {
	const many, limit = 10_000, 10 * time.Second
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3, Flags: []string{"--max-intentions", fmt.Sprint(many + 100)}, Grants: []string{"service-b"}})
	host1, host3 := m.Nodes[0], m.Nodes[2]
	webServer(t, host3, "service-B", "127.0.0.1", 80, "Hello World")
	define(t, m.Nodes, host3, "service-b", serviceB)
	host1.MakeWorkload(t, "service-A")
	dir := filepath.Join(host1.Dir, "policy")
	testhost.Must(t, os.Mkdir(dir, 0o700))
	testhost.WriteFile(t, filepath.Join(dir, "consul.json"),
		`{"Kind": "service-intentions", "Name": "service-B", "Sources": [{"Name": "service-A", "Action": "allow"}]}`)
	testhost.WriteFile(t, filepath.Join(dir, "many.hcl"), manyIntentions(many, "allow"))

	began := time.Now()
	out := host1.Tacit(t, "apply", dir, "--wait", "--timeout", "5m")
	took := time.Since(began)
	t.Logf("%d intentions are in force on 3 nodes after %s", many, took.Round(time.Millisecond))
	if !strings.Contains(out, fmt.Sprintf("%d added, 0 changed, 0 removed, 0 unchanged\nin force on 3 of 3 nodes", many+1)) || late(took, limit) {
		t.Errorf("after %s: %s", took, out[max(0, len(out)-300):])
	}
	answers(t, host1, "service-A", "http://service-B/", "Hello World")

	testhost.WriteFile(t, filepath.Join(host1.Dir, "more.hcl"), strings.ReplaceAll(manyIntentions(200, "deny"), "caller", "other"))
	out, exit := host1.TryTacit(t, "apply", filepath.Join(host1.Dir, "more.hcl"))
	if exit != 1 || !strings.Contains(out, fmt.Sprintf("of %d intentions are in use", many+100)) {
		t.Errorf("more than fits: exit %d, %s", exit, out[max(0, len(out)-300):])
	}
	if list := host1.Tacit(t, "intention", "list"); strings.Contains(list, "other-") {
		t.Error("a part of what doesn't fit was made")
	}

	began = time.Now()
	out = host1.Tacit(t, "apply", filepath.Join(dir, "consul.json"), "--prune", "--yes", "--wait", "--timeout", "5m")
	took = time.Since(began)
	t.Logf("%d intentions are removed on 3 nodes after %s", many, took.Round(time.Millisecond))
	if !strings.Contains(out, fmt.Sprintf("0 added, 0 changed, %d removed, 1 unchanged\nin force on 3 of 3 nodes", many)) || late(took, limit) {
		t.Errorf("after %s: %s", took, out[max(0, len(out)-300):])
	}
	answers(t, host1, "service-A", "http://service-B/", "Hello World")
}

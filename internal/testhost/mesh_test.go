// SPDX-License-Identifier: Apache-2.0

package testhost_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tacit/internal/testhost"
)

// TestMesh: the first node bootstraps, the others join with tokens for their
// names and grants, and Prepare runs before all of that.
func TestMesh(t *testing.T) {
	testhost.VerifyNone(t)
	standIns(t, `case "$3" in
nodes) echo '"alive": true, "alive": true' ;;
token) echo "$@" ;;
*) echo "no such command" >&2; exit 2 ;;
esac`)
	var outside *testhost.Host
	m := testhost.NewMesh(t, testhost.MeshOptions{
		Nodes: 2, Grants: []string{"db", "web"}, Flags: []string{"--every"}, First: []string{"--first"},
		Prepare: func(m *testhost.Mesh) { outside = m.Host(t, "outside") },
	})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	token := filepath.Join(host2.Dir, "token")
	for h, want := range map[*testhost.Host]string{
		host1: "--bootstrap --every --first\n",
		host2: "--join " + host1.Addr.String() + " --token-file " + token + " --every\n",
	} {
		if got := h.Current(t).Output(); !strings.HasSuffix(got, want) {
			t.Errorf("%s: flags %q, want %q at the end", h.Name, got, want)
		}
	}
	text, err := os.ReadFile(token)
	if err != nil || !strings.HasSuffix(string(text), "token create --node host2 --service db --service web\n") {
		t.Errorf("host2's token: %q, %v", text, err)
	}
	if host3 := m.Join(t, "host3"); len(m.Nodes) != 3 || host3.Current(t) == nil {
		t.Errorf("%d nodes after another one joined", len(m.Nodes))
	}
	said := fatal(t, func(r testing.TB) { host1.Tacit(r, "services") })
	for _, want := range []string{"host1$ tacit services: exit 2\nno such command", "tacitd on host1:\n", "tacitd on host2:\n", "tacitd on host3:\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("a failed command doesn't show %q: %s", want, said)
		}
	}
	if strings.Contains(said, outside.Name) {
		t.Errorf("a failed command shows the log of a host without a daemon: %s", said)
	}
	if said := fatal(t, func(r testing.TB) { outside.Sh(r, "echo half; false; echo whole") }); !strings.Contains(said, "exit 1\nhalf\n") {
		t.Errorf("a failed script: %q", said)
	}
}

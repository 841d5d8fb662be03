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

// key is a key as `tacit key list --json` shows it.
type key struct{ ID, Kind, Node, Service, State string }

// keysOf are the keys that a node knows, of one kind and node.
func keysOf(t *testing.T, h *testhost.Host, kind, node string) (out []key) {
	t.Helper()
	list := jsonOf[struct{ Keys []key }](t, h.Tacit(t, "key", "list", "--json"))
	for _, k := range list.Keys {
		if k.Kind == kind && k.Node == node {
			out = append(out, k)
		}
	}
	return out
}

// greeted connects to db, prints what it says, and with "hold" waits for the end.
const greeted = `import socket, sys
s = socket.create_connection(("db", 8000), 5)
print(s.recv(100).decode(), flush=True)
s.settimeout(None)
if sys.argv[1:] == ["hold"]: s.recv(1)`

// holds opens a stream from web to db, which ends when it is cut.
func holds(t *testing.T, h *testhost.Host) *testhost.Process {
	t.Helper()
	p := h.StartAs(t, "web", testhost.Python(), "-c", greeted, "hold")
	testhost.AwaitText(t, 10*time.Second, "a stream to db", "hello", p.Output)
	return p
}

// reaches waits until web reaches db on a host.
func reaches(t *testing.T, h *testhost.Host) {
	t.Helper()
	testhost.Eventually(t, 20*time.Second, "db answers web on "+h.Name, func() error {
		return succeeded(h.RunAs(t, "web", testhost.Python(), "-c", greeted))
	})
}

// isCut waits until a download was cut, and returns how long that took.
func isCut(t *testing.T, p *testhost.Process, since time.Time, what string) time.Duration {
	t.Helper()
	select {
	case <-p.Ended():
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: the stream goes on", what)
	}
	took := time.Since(since)
	if late(took, 2*time.Second) {
		t.Errorf("%s: cut after %s", what, took)
	}
	t.Logf("%s: cut after %s", what, took.Round(time.Millisecond))
	return took
}

// TestRevokedKeys: revoking a service's key cuts its stream on other nodes, and the
// node gets another key by itself. Revoking a node cuts its lanes, takes its names away
// and refuses its operator key, also after a restart.
func TestRevokedKeys(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3, Grants: []string{"db", "web"}})
	host1, host2, host3 := m.Nodes[0], m.Nodes[1], m.Nodes[2]
	host2.StartAs(t, "db", host2.Bin("probe"), "listen", "127.0.0.1:8000", "hello")
	host2.Tacit(t, "service", "register", "db", "--port", "8000")
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	reaches(t, host3)

	for range rounds(1, 20) {
		live := holds(t, host3)
		old := keysOf(t, host2, "service", "host2")
		if seen := keysOf(t, host3, "service", "host2"); len(old) != 1 || len(seen) != 1 || seen[0].ID != old[0].ID {
			t.Fatalf("host2 has %+v, host3 has seen %+v", old, seen)
		}
		since := time.Now()
		host1.Tacit(t, "key", "revoke", old[0].ID, "--yes", "--reason", "found on a disk")
		isCut(t, live, since, "a service's key")
		reaches(t, host3)
		if now := keysOf(t, host2, "service", "host2"); len(now) != 1 || now[0].ID == old[0].ID {
			t.Errorf("host2 uses %+v", now)
		}
	}

	line := strings.TrimSpace(host2.Tacit(t, "operator", "request"))
	host1.Tacit(t, "operator", "add", "host2", "--key", line)
	testhost.Eventually(t, 10*time.Second, "host2 is an operator's node", func() error {
		return succeeded(host2.TryTacit(t, "intention", "deny", "x", "secret"))
	})
	live := holds(t, host3)
	out, exit := host1.TryTacit(t, "node", "revoke", "host2")
	if exit != 1 || !strings.Contains(out, "repeat it with --yes") || !strings.Contains(out, "intention/x>secret") {
		t.Fatalf("without --yes: exit %d, %s", exit, out)
	}
	since := time.Now()
	host1.Tacit(t, "node", "revoke", "host2", "--yes")
	isCut(t, live, since, "a node")
	gone := func(h *testhost.Host) error {
		if out, exit := h.Run(t, "app", "getent", "ahostsv4", "db.mesh"); exit == 0 {
			return fmt.Errorf("%s: db.mesh is %s", h.Name, out)
		}
		if out := h.Tacit(t, "nodes"); strings.Contains(out, "host2") {
			return fmt.Errorf("%s: %s", h.Name, out)
		}
		return nil
	}
	for _, h := range []*testhost.Host{host1, host3} {
		testhost.Eventually(t, 10*time.Second, "the names of host2 are gone", func() error { return gone(h) })
	}
	if took := time.Since(since); late(took, 5*time.Second) {
		t.Errorf("its names are gone after %s", took)
	}
	host3.Stop(t)
	host3.Daemon(t)
	testhost.Must(t, gone(host3))
	_, _ = host2.TryTacit(t, "intention", "allow", "evil", "db") // it may not have heard yet
	for _, h := range []*testhost.Host{host1, host3} {
		rules := h.Tacit(t, "intention", "list")
		if !strings.Contains(rules, "secret") || strings.Contains(rules, "evil") {
			t.Errorf("%s: %s", h.Name, rules)
		}
	}
}

// rounds is how often the soak repeats what the usual run does few times.
func rounds(few, many int) int {
	if late(1, 0) {
		return many
	}
	return few
}

// TestOperatorStolenDrill runs the commands of docs/drill-operator-stolen.md as they
// stand there, and a thief's between its parts.
func TestOperatorStolenDrill(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3})
	host1, host2, host3 := m.Nodes[0], m.Nodes[1], m.Nodes[2]
	parts := drill(t)
	stick := t.TempDir()
	run := func(section string) {
		t.Helper()
		for _, c := range parts[section] {
			h := m.Nodes[int(c.host[len("host")]-'1')]
			script := fmt.Sprintf("cd %s; export TACIT_SOCKET=%s PATH=%s:$PATH; %s", stick, h.Socket(), filepath.Dir(h.Bin("tacit")), c.line)
			t.Logf("%s# %s\n%s", c.host, c.line, h.Sh(t, script))
		}
		if len(parts[section]) == 0 {
			t.Fatalf("the drill has no part %q", section)
		}
	}
	host1.Tacit(t, "intention", "deny", "x", "secret")
	run("Before")
	allowed := func(h *testhost.Host, by string) {
		t.Helper()
		testhost.Eventually(t, 10*time.Second, "rules by "+by, func() error { return succeeded(h.TryTacit(t, "intention", "allow", by, "db")) })
	}
	allowed(host2, "honest")
	testhost.Eventually(t, 10*time.Second, "host1 knows what host2 signed", func() error { return contains(host1.Tacit(t, "intention", "list"), "honest") })

	host1.Tacit(t, "intention", "allow", "evil", "secret")
	host1.Tacit(t, "operator", "remove", "host2", "--yes", "--without", "intention")
	testhost.Eventually(t, 10*time.Second, "host3 follows the thief", func() error {
		rules := host3.Tacit(t, "intention", "list")
		if strings.Contains(rules, "honest") || !strings.Contains(rules, "evil") {
			return fmt.Errorf("%s", rules)
		}
		return nil
	})

	run("The key of host1 is stolen")
	for _, h := range m.Nodes { // host1 too has heard then that its key is revoked
		testhost.Eventually(t, 10*time.Second, h.Name+" has the honest rules", func() error {
			rules := h.Tacit(t, "intention", "list")
			if strings.Contains(rules, "evil") || !strings.Contains(rules, "honest") || !strings.Contains(rules, "x ") {
				return fmt.Errorf("%s", rules)
			}
			return nil
		})
	}
	run("A new key for host1")
	for _, h := range m.Nodes {
		allowed(h, "by-"+h.Name)
	}
	if out := host1.Sh(t, "ls "+filepath.Join(host1.State, "authority")); strings.Contains(out, "root.key") {
		t.Errorf("the root key is on host1: %s", out)
	}
}

type command struct{ host, line string }

// drill is the commands of docs/drill-operator-stolen.md, by heading.
func drill(t *testing.T) map[string][]command {
	t.Helper()
	text, err := os.ReadFile("../../docs/drill-operator-stolen.md")
	testhost.Must(t, err)
	out := map[string][]command{}
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = title
		}
		if host, words, ok := strings.Cut(line, "# tacit "); ok && strings.HasPrefix(host, "host") {
			out[section] = append(out[section], command{host, "tacit " + words})
		}
	}
	return out
}

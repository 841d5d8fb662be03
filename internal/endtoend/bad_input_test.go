// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestBadInput: each error is one line that names what is wrong and what to do,
// and the host is left unchanged.
func TestBadInput(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{})
	host1 := m.Nodes[0]
	token := func(name string, more ...string) string {
		file := filepath.Join(t.TempDir(), "token")
		testhost.WriteFile(t, file, host1.Tacit(t, append([]string{"token", "create", "--node", name}, more...)...))
		return file
	}
	otherMesh := filepath.Join(t.TempDir(), "token")
	text := testhost.NewMesh(t, testhost.MeshOptions{}).Nodes[0].Tacit(t, "token", "create", "--node", "late")
	testhost.WriteFile(t, otherMesh, text)
	cut := filepath.Join(t.TempDir(), "token")
	testhost.WriteFile(t, cut, text[:len(text)/2])
	used := token("used")
	m.Join(t, "used-before") // host2 of the name below
	first := m.Host(t, "used")
	first.Daemon(t, "--join", host1.Addr.String(), "--token-file", used)
	first.Stop(t)

	join := []string{"--join", host1.Addr.String(), "--token-file"}
	for name, c := range map[string]struct {
		node string
		args []string
		want []string
	}{
		"no mesh yet":       {"late", nil, []string{"in no mesh", "--bootstrap", "--join"}},
		"no token":          {"late", []string{"--join", "10.87.9.9"}, []string{"--token-file", "tacit token create --node late"}},
		"no token file":     {"late", append(join, "/nowhere/token"), []string{"--token-file", "/nowhere/token"}},
		"cut-off token":     {"late", append(join, cut), []string{"--token-file", "tacit token create"}},
		"another's token":   {"late", append(join, token("early")), []string{"for node early", "--node late"}},
		"used token":        {"used", append(join, used), []string{"has been used", "tacit token create"}},
		"expired token":     {"late", append(join, token("late", "--ttl", "1s")), []string{"expired", "tacit token create"}},
		"another mesh's CA": {"late", append(join, otherMesh), []string{"CA", "token"}},
		"bad name":          {"no_label", nil, []string{"--node", "letters, digits and hyphens"}},
		"bad address":       {"late", []string{"--address", "host"}, []string{"--address", "IP address"}},
		"not a cgroup":      {"late", []string{"--bootstrap", "--cgroup", os.TempDir()}, []string{"cgroup v2"}},
		"both ways":         {"late", []string{"--bootstrap", "--join", "10.87.9.9"}, []string{"--bootstrap", "--join", "only one"}},
		"bad range":         {"late", []string{"--virtual-range4", "10.0.0.0/30"}, []string{"--virtual-range4", "/24"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := m.Host(t, strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), "'", ""))
			before := h.Snapshot(t)
			if name == "expired token" {
				testhost.Eventually(t, 5*time.Second, "the token is old", func() error { return olderThan(c.args[3], time.Second+200*time.Millisecond) })
			}
			out, exit := h.Tacitd(t, append([]string{"--node", c.node}, c.args...)...)
			last := lastLine(out)
			if exit != 1 {
				t.Errorf("exit %d, want 1\n%s", exit, out)
			}
			for _, want := range c.want {
				if !strings.Contains(last, want) {
					t.Errorf("doesn't say %q: %s", want, out)
				}
			}
			if after := h.Snapshot(t); after != before {
				t.Errorf("the host was changed:\n%s", after)
			}
		})
	}
}

// TestSecondDaemon: a state directory has one daemon, and a port that is in use
// is named.
func TestSecondDaemon(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{})
	host := m.Nodes[0]
	out, exit := host.Tacitd(t)
	if exit != 1 || !strings.Contains(lastLine(out), "in use by another tacitd") {
		t.Errorf("exit %d: %s", exit, out)
	}
	host.Tacit(t, "status") // the first daemon still answers
	alone := m.Host(t, "alone")
	alone.Start(t, "user", testhost.Python(), "-m", "http.server", "7947")
	alone.AwaitListener(t, 7947)
	before := alone.Snapshot(t)
	out, exit = alone.Tacitd(t, "--bootstrap")
	if after := alone.Snapshot(t); after != before {
		t.Errorf("the host was changed:\n%s", after)
	}
	if exit != 1 || !strings.Contains(lastLine(out), "--lane-port 7947") || !strings.Contains(lastLine(out), "in use") {
		t.Errorf("exit %d: %s", exit, out)
	}
}

// TestBadCommands: the CLI's exit statuses, and what it advises.
func TestBadCommands(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	host1.Tacit(t, "service", "register", "kept", "--port", "9000")
	for name, c := range map[string]struct {
		host *testhost.Host
		args []string
		exit int
		want []string
	}{
		"not an operator":      {host2, []string{"intention", "allow", "a", "b"}, 1, []string{"operator key", "host1"}},
		"no grant":             {host2, []string{"service", "register", "db", "--port", "5432"}, 1, []string{"not granted", "tacit node grant host2 --service db"}},
		"no grant to run":      {host2, []string{"run", "db", "--", "true"}, 1, []string{"not granted"}},
		"a bad name":           {host1, []string{"intention", "allow", "web_1", "db"}, 2, []string{"web_1", "letters, digits and hyphens"}},
		"half a wildcard":      {host1, []string{"intention", "allow", "web-*", "db"}, 2, []string{"web-*"}},
		"nothing to delete":    {host1, []string{"intention", "delete", "a", "b"}, 1, []string{"no intention", "tacit intention list"}},
		"a name that is taken": {host1, []string{"token", "create", "--node", "host2"}, 1, []string{"taken"}},
		"no such node":         {host1, []string{"node", "show", "ghost"}, 2, []string{"ghost", "tacit nodes"}},
		"no such service":      {host1, []string{"service", "show", "ghost"}, 2, []string{"ghost", "tacit services"}},
		"a port dropped":       {host1, []string{"service", "register", "kept"}, 1, []string{"port 9000", "--port 9000"}},
		"denied":               {host1, []string{"intention", "check", "a", "b"}, 1, []string{"enied"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, exit := c.host.TryTacit(t, c.args...)
			if exit != c.exit {
				t.Errorf("exit %d, want %d\n%s", exit, c.exit, out)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("doesn't say %q: %s", want, out)
				}
			}
		})
	}
}

// TestLastGoodFileStays: a file that became invalid is reported by name, line and
// reason, and its last valid content stays in force.
func TestLastGoodFileStays(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{})
	host := m.Nodes[0]
	define(t, m.Nodes, host, "service-b", serviceB)
	file := filepath.Join(host.Services, "service-b.json")
	testhost.WriteFile(t, file, "{\"services\":[\n{\"name\":\"service-B\",\"prot\":80}]}")
	testhost.Eventually(t, 10*time.Second, "status names the file", func() error {
		out, exit := host.TryTacit(t, "status")
		if exit != 1 {
			return contains("", "NOT healthy")
		}
		return contains(out, "service-b.json:2")
	})
	host.Tacit(t, "service", "show", "service-b")

	host.Stop(t) // also over a restart the port stays closed to plain connections
	host.Daemon(t)
	host.Tacit(t, "service", "show", "service-b")
	refused(t, host, "", "http://127.0.0.1/")
	if out, exit := host.TryTacit(t, "status"); exit != 1 || !strings.Contains(out, "service-b.json:2") {
		t.Errorf("status after a restart: exit %d, %s", exit, out)
	}
	testhost.WriteFile(t, file, serviceB)
	testhost.Eventually(t, 10*time.Second, "healthy again", func() error { return succeeded(host.TryTacit(t, "status")) })
}

func olderThan(path string, age time.Duration) error {
	st, err := os.Stat(path)
	if err == nil && time.Since(st.ModTime()) < age {
		return os.ErrDeadlineExceeded
	}
	return err
}

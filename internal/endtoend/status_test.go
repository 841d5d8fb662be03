// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// seenWithin is the documented limit, 5 s, with a margin for a busy machine.
const seenWithin = 15 * time.Second

// fixture is a mesh with something to break on host1: a web service that may
// call db on host2, and a container.
type fixture struct {
	t         *testing.T // of all subtests
	host, box *testhost.Host
}

func newFixture(t *testing.T) *fixture {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	webServer(t, host2, "db", "0.0.0.0", 8000, "db")
	host2.Tacit(t, "service", "register", "db", "--port", "8000")
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	return &fixture{t: t, host: host1, box: host1.Container(t, "box")}
}

// works fails unless an allowed caller is answered and a denied one refused.
func (f *fixture) works(t *testing.T) error {
	if err := succeeded(curl(t, f.host, "web", "http://db:8000/")); err != nil {
		return err
	}
	if out, exit := curl(t, f.host, "other", "http://db:8000/"); exit != 7 {
		return fmt.Errorf("a denied caller: exit %d, %s", exit, out)
	}
	return nil
}

// says fails unless `tacit status` exits with a status and prints a text.
func (f *fixture) says(t *testing.T, exit int, text string) error {
	out, got := f.host.TryTacit(t, "status", "--json")
	if got != exit || !strings.Contains(out, text) {
		return fmt.Errorf("status: exit %d, want %d and %q\n%s", got, exit, text, out)
	}
	return nil
}

// repaired fails unless status names a repair since begin.
func (f *fixture) repaired(t *testing.T, what string, begin time.Time) error {
	out, exit := f.host.TryTacit(t, "status", "--json")
	status := jsonOf[struct {
		Checks []struct{ Name, Reason string }
	}](t, out)
	for _, c := range status.Checks {
		var ago float64
		if _, err := fmt.Sscanf(c.Reason, "%f s ago:", &ago); err == nil && exit == 0 &&
			strings.HasPrefix(c.Name, "repaired "+what) && ago <= time.Since(begin).Seconds()+0.5 {
			return nil
		}
	}
	return fmt.Errorf("status: exit %d, want 0 and repaired %s\n%s", exit, what, out)
}

// TestStatusNeverLies: whatever is done to the host, the daemon repairs it or
// status shows it.
func TestStatusNeverLies(t *testing.T) {
	f := newFixture(t)
	works := func(t *testing.T) func() error { return func() error { return f.works(t) } }
	testhost.Eventually(t, seenWithin, "the fixture works", works(t))
	for _, s := range sabotages() {
		t.Run(s.name, func(t *testing.T) {
			begin := time.Now()
			undo := sync.OnceFunc(s.harm(t, f))
			defer undo() // also where this fails, for the rows after it
			testhost.Eventually(t, seenWithin, "status says what was done", func() error {
				switch {
				case s.repaired != "":
					return f.repaired(t, s.repaired, begin)
				case s.shown != "":
					return f.says(t, 1, s.shown)
				}
				return f.says(t, 0, s.named)
			})
			t.Logf("shown after %s", time.Since(begin).Round(10*time.Millisecond))
			undo()
			testhost.Eventually(t, seenWithin, "healthy again", func() error { return f.says(t, 0, `"healthy": true`) })
			testhost.Eventually(t, seenWithin, "it works again", works(t))
		})
	}
}

// TestHookedCgroupIsMadeAnew: every process was moved out of the hooked cgroup,
// which was removed and made again. The links are attached to a dying cgroup, and
// every cgroup has another id.
func TestHookedCgroupIsMadeAnew(t *testing.T) {
	f := &fixture{t: t, host: testhost.NewMesh(t, testhost.MeshOptions{}).Nodes[0]}
	if err := f.says(t, 0, `"healthy": true`); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	f.host.Current(t).Signal(syscall.SIGSTOP)
	removeTree(t, f.host.Cgroup, filepath.Dir(f.host.Cgroup))
	f.host.Current(t).Signal(syscall.SIGCONT)
	testhost.Eventually(t, seenWithin, "status says that it is gone", func() error {
		// in the test's own cgroup, since Run would make the host's
		out, err := exec.Command(f.host.Bin("tacit"), "--socket", f.host.Socket(), "status", "--json").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "the hooked cgroup") {
			return fmt.Errorf("%v, %s", err, out)
		}
		return nil
	})
	t.Logf("shown after %s", time.Since(begin).Round(10*time.Millisecond))
	if err := os.Mkdir(f.host.Cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	for _, what := range []string{"hook connect4", "daemon's cgroup"} {
		testhost.Eventually(t, seenWithin, what+" repaired", func() error { return f.repaired(t, what, begin) })
	}
	t.Logf("repaired after %s", time.Since(begin).Round(10*time.Millisecond))
	good := time.Now() // a self-probe that began before the repair doesn't count
	testhost.Eventually(t, seenWithin, "healthy for some seconds", func() error {
		if err := f.says(t, 0, `"healthy": true`); err != nil {
			good = time.Now()
			return err
		}
		if time.Since(good) < 5*time.Second {
			return errors.New("not for long enough")
		}
		return nil
	})
	refused(t, f.host, "", "http://240.64.0.9:8000/")
}

// removeTree removes a cgroup and all below it; their processes go to another one.
func removeTree(t *testing.T, root, to string) {
	t.Helper()
	var dirs []string
	testhost.Must(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	}))
	for _, dir := range slices.Backward(dirs) {
		testhost.Eventually(t, seenWithin, dir+" removed", func() error {
			text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			for _, pid := range strings.Fields(string(text)) {
				_ = os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(pid), 0) // fails for a process that has ended
			}
			return errors.Join(err, syscall.Rmdir(dir))
		})
	}
}

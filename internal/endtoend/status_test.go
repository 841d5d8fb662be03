// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// seenWithin is the promise, 5 s, with room for a machine that tests much else.
const seenWithin = 15 * time.Second

// bed is a mesh with something to break on host1: a web service that may call
// db on host2, and a container.
type bed struct {
	*mesh
	host, box *testhost.Host
	daemon    *testhost.Daemon
}

func newBed(t *testing.T) *bed {
	b := &bed{mesh: &mesh{t: t, net: testhost.NewNet(t)}}
	b.host = b.net.Host(t, "host1")
	b.daemon = b.host.Daemon(t, "--bootstrap")
	b.hosts = []*testhost.Host{b.host}
	host2 := b.join("host2", "db")
	b.web(host2, "db", "0.0.0.0", 8000, "db")
	b.tacit(host2, "service", "register", "db", "--port", "8000")
	b.tacit(b.host, "intention", "allow", "web", "db", "--wait")
	b.box = b.host.Container(t, "box")
	return b
}

// works: who may call is answered, and who may not is refused.
func (b *bed) works() error {
	if err := expect0(b.curl(b.host, "web", "http://db:8000/")); err != nil {
		return err
	}
	if out, exit := b.curl(b.host, "other", "http://db:8000/"); exit != 7 {
		return fmt.Errorf("denied, and yet: exit %d, %s", exit, out)
	}
	return nil
}

func (b *bed) sh(script string) { b.t.Helper(); shOn(b.t, b.host, script) }

func shOn(t *testing.T, h *testhost.Host, script string) {
	t.Helper()
	if out, exit := h.Run(t, "", "sh", "-c", script); exit != 0 {
		t.Fatalf("%s$ %s: exit %d, %s", h.Name, script, exit, out)
	}
}

func move(t *testing.T, pid int, cgroup string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(fmt.Sprint(pid)), 0); err != nil {
		t.Fatal(err)
	}
}

// says wants an exit status of `tacit status`, and a text in what it prints.
func (b *bed) says(exit int, text string) error {
	out, got := b.host.Tacit(b.t, "status", "--json")
	if got != exit || !strings.Contains(out, text) {
		return fmt.Errorf("status: exit %d, want %d and %q\n%s", got, exit, text, out)
	}
	return nil
}

// repaired wants status to tell of a repair since begin.
func (b *bed) repaired(what string, begin time.Time) error {
	out, exit := b.host.Tacit(b.t, "status", "--json")
	status := jsonOf[struct {
		Checks []struct{ Name, Reason string }
	}](b.t, out)
	for _, c := range status.Checks {
		var ago float64
		if _, err := fmt.Sscanf(c.Reason, "%f s ago:", &ago); err == nil && exit == 0 &&
			strings.HasPrefix(c.Name, "repaired "+what) && ago <= time.Since(begin).Seconds()+0.5 {
			return nil
		}
	}
	return fmt.Errorf("status: exit %d, want 0 and repaired %s\n%s", exit, what, out)
}

// TestStatusNeverLies: what is done to the host is repaired, or shown.
func TestStatusNeverLies(t *testing.T) {
	b := newBed(t)
	testhost.Eventually(t, seenWithin, "the bed works", b.works)
	for _, s := range sabotages() {
		t.Run(s.name, func(t *testing.T) {
			b.t = t
			begin := time.Now()
			undo := sync.OnceFunc(s.harm(b))
			defer undo() // also where the row fails: the others don't have to
			testhost.Eventually(t, seenWithin, "what was done is told", func() error {
				switch {
				case s.repaired != "":
					return b.repaired(s.repaired, begin)
				case s.shown != "":
					return b.says(1, s.shown)
				}
				return b.says(0, s.named)
			})
			t.Logf("told after %s", time.Since(begin).Round(10*time.Millisecond))
			undo()
			testhost.Eventually(t, seenWithin, "healthy again", func() error { return b.says(0, `"healthy": true`) })
			testhost.Eventually(t, seenWithin, "it works again", b.works)
		})
	}
}

// TestHookedCgroupIsMadeAnew: everything that ran in it was moved out, it was
// removed and made again. The links sit on a cgroup that is dying, and every
// number of a cgroup is another one.
func TestHookedCgroupIsMadeAnew(t *testing.T) {
	b := &bed{mesh: &mesh{t: t, net: testhost.NewNet(t)}}
	b.host = b.net.Host(t, "host1")
	b.daemon = b.host.Daemon(t, "--bootstrap")
	if err := b.says(0, `"healthy": true`); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	b.daemon.Signal(syscall.SIGSTOP)
	b.removeTree(filepath.Dir(b.host.Cgroup))
	b.daemon.Signal(syscall.SIGCONT)
	testhost.Eventually(t, seenWithin, "status says that it is gone", func() error {
		// from the test's own cgroup: the host's would be made for it
		out, err := exec.Command(b.host.Bin("tacit"), "--socket", b.host.Socket(), "status", "--json").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "the hooked cgroup") {
			return fmt.Errorf("%v, %s", err, out)
		}
		return nil
	})
	t.Logf("told after %s", time.Since(begin).Round(10*time.Millisecond))
	if err := os.Mkdir(b.host.Cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	for _, what := range []string{"hook connect4", "daemon's cgroup"} {
		testhost.Eventually(t, seenWithin, what+" repaired", func() error { return b.repaired(what, begin) })
	}
	t.Logf("repaired after %s", time.Since(begin).Round(10*time.Millisecond))
	good := time.Now() // a probe that has begun before counts for nothing
	testhost.Eventually(t, seenWithin, "healthy for some seconds", func() error {
		if err := b.says(0, `"healthy": true`); err != nil {
			good = time.Now()
			return err
		}
		if time.Since(good) < 5*time.Second {
			return errors.New("not for long enough")
		}
		return nil
	})
	b.refused(b.host, "", "http://240.64.0.9:8000/")
}

// removeTree removes the host's cgroups; what runs in them goes to another.
func (b *bed) removeTree(to string) {
	var dirs []string
	err := filepath.WalkDir(b.host.Cgroup, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		testhost.Eventually(b.t, seenWithin, dirs[i]+" removed", func() error {
			text, err := os.ReadFile(filepath.Join(dirs[i], "cgroup.procs"))
			for _, pid := range strings.Fields(string(text)) {
				_ = os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(pid), 0) // or it has ended
			}
			return errors.Join(err, syscall.Rmdir(dirs[i]))
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package workload_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/node/workload"
)

func TestNewTree(t *testing.T) {
	_, root := newRoot(t)
	for _, path := range []string{root, root + "/", root + "//./", root + "/../" + filepath.Base(root)} {
		tree, err := workload.NewTree(path)
		if err != nil || tree.Root() != root {
			t.Errorf("%s: root %q, %v", path, tree.Root(), err)
		}
	}
	for _, path := range []string{t.TempDir(), filepath.Join(root, "missing")} {
		if _, err := workload.NewTree(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := workload.ID(filepath.Join(root, "cgroup.procs")); err == nil {
		t.Error("a file has a cgroup's number")
	}
}

func TestDepth(t *testing.T) {
	_, root := newRoot(t)
	for path, want := range map[string]uint32{top(t): 0, root: 1, mkdir(t, root, "a", "b") + "/": 3} {
		tree, err := workload.NewTree(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := tree.Depth(); got != want {
			t.Errorf("%s: depth %d, want %d", path, got, want)
		}
	}
}

func TestEnterDaemon(t *testing.T) {
	_, root := newRoot(t)
	daemon := start(t, "enter "+root, "")
	said := daemon.says(t)
	leaf := filepath.Join(root, "tacit", "daemon")
	id, err := workload.ID(leaf)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("entered %d true <nil>", id); said != want {
		t.Errorf("the daemon says %q, want %q", said, want)
	}
	if at := daemon.cgroup(t); at != leaf {
		t.Errorf("the daemon is in %s, want %s", at, leaf)
	}

	second := start(t, "enter "+root, "")
	said = second.says(t)
	if !strings.Contains(said, fmt.Sprintf("process %d is in", daemon.Process.Pid)) || !strings.Contains(said, leaf) {
		t.Errorf("beside another daemon: %s", said)
	}
	if at := second.cgroup(t); at == leaf {
		t.Error("the second daemon is in the leaf all the same")
	}
}

func TestEnterDaemonRefusesStrangers(t *testing.T) {
	_, root := newRoot(t)
	leaf := mkdir(t, root, "tacit", "daemon")
	stranger := start(t, "wait", leaf)
	daemon := start(t, "enter "+root, "")
	if said := daemon.says(t); !strings.Contains(said, fmt.Sprintf("process %d is in", stranger.Process.Pid)) {
		t.Errorf("beside a stranger: %s", said)
	}
	stranger.end()
	testhost.Eventually(t, 5*time.Second, "the stranger's end", func() error {
		text, err := os.ReadFile(filepath.Join(leaf, "cgroup.procs"))
		if err == nil && len(text) > 0 {
			err = fmt.Errorf("still in the leaf: %s", text)
		}
		return err
	})
	if said := start(t, "enter "+root, "").says(t); !strings.HasPrefix(said, "entered ") {
		t.Errorf("alone again: %s", said)
	}
}

func pidfdOf(t *testing.T, c *child) int {
	t.Helper()
	fd, err := unix.PidfdOpen(c.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestAdmit(t *testing.T) {
	tree, _ := newRoot(t)
	id, err := tree.ServiceCgroup("web")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := tree.ServiceCgroup("web"); again != id || err != nil {
		t.Errorf("made twice: %d then %d, %v", id, again, err)
	}
	want := tree.ServicePath("web")
	for name, fd := range map[string]func(*child) int{
		"by pidfd":                func(c *child) int { return pidfdOf(t, c) },
		"by number, older kernel": func(*child) int { return -1 },
	} {
		c := start(t, "wait", "")
		if err := tree.Admit("web", c.Process.Pid, fd(c)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if at := c.cgroup(t); at != want {
			t.Errorf("%s: the process is in %s, want %s", name, at, want)
		}
		if !workload.Within(want, id) {
			t.Errorf("%s: %d isn't within %s", name, id, want)
		}
	}
}

func TestAdmitRefuses(t *testing.T) {
	tree, _ := newRoot(t)
	if _, err := tree.ServiceCgroup("web"); err != nil {
		t.Fatal(err)
	}
	dead, live := start(t, "wait", ""), start(t, "wait", "")
	fd := pidfdOf(t, dead)
	dead.end()
	before := live.cgroup(t)
	for name, c := range map[string]struct {
		service    identity.Name
		pid, pidfd int
	}{
		"a dead process":                     {"web", dead.Process.Pid, fd},
		"a dead process by number":           {"web", dead.Process.Pid, -1},
		"a number that was given to another": {"web", live.Process.Pid, fd},
		"a service without a cgroup":         {"db", live.Process.Pid, pidfdOf(t, live)},
		"no process number":                  {"web", -5, -1},
	} {
		if err := tree.Admit(c.service, c.pid, c.pidfd); err == nil {
			t.Errorf("%s: admitted", name)
		}
		if at := live.cgroup(t); at != before {
			t.Fatalf("%s: a process that was refused is in %s", name, at)
		}
	}
	self := start(t, "admit "+tree.Root(), "") // 0 would be whoever asks
	if said := self.says(t); !strings.Contains(said, "process 0 can't be moved") || self.cgroup(t) != before {
		t.Errorf("process 0: %s, in %s", said, self.cgroup(t))
	}
	if text, err := os.ReadFile(filepath.Join(tree.ServicePath("web"), "cgroup.procs")); err != nil || len(text) > 0 {
		t.Errorf("left in the workload: %q, %v", text, err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package workload_test

import (
	"path/filepath"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/node/workload"
)

func TestRootIsATree(t *testing.T) {
	if err := workload.Check(top(t)); err != nil {
		t.Error(err)
	}
}

func TestRemove(t *testing.T) {
	tree, root := newRoot(t)
	if err := tree.Remove(); err != nil {
		t.Errorf("nothing to remove: %v", err)
	}
	neighbour := mkdir(t, root, "system.slice")
	leaf := mkdir(t, root, "tacit", "daemon")
	nested := mkdir(t, tree.ServicePath("idle"), "a", "b")
	for _, name := range []identity.Name{"busy", "idle"} {
		if _, err := tree.ServiceCgroup(name); err != nil {
			t.Fatal(err)
		}
	}
	busy := start(t, "wait", tree.ServicePath("busy"))
	if err := tree.Remove(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		neighbour: true, tree.ServicePath("busy"): true, leaf: false, nested: false, tree.ServicePath("idle"): false,
	} {
		if exists(path) != want {
			t.Errorf("%s: exists %t, want %t", path, !want, want)
		}
	}
	if at := busy.cgroup(t); at != tree.ServicePath("busy") {
		t.Errorf("the busy process is in %s", at)
	}

	busy.end()
	testhost.Eventually(t, 5*time.Second, "the end of the last process", func() error {
		if err := tree.Remove(); err != nil {
			return err
		}
		return gone(filepath.Join(root, "tacit"))
	})
	if !exists(neighbour) {
		t.Error("what isn't ours was removed")
	}
}

// TestRemoveEndsTheProbe: a daemon that was killed leaves its probe for a moment.
func TestRemoveEndsTheProbe(t *testing.T) {
	tree, root := newRoot(t)
	start(t, "wait", mkdir(t, root, "tacit", "probe"))
	if err := tree.Remove(); err != nil {
		t.Fatal(err)
	}
	if exists(tree.ProbePath()) {
		t.Error("the probe's cgroup is still there")
	}
}

// TestRemoveEndsScripts: they would run to their end without the daemon.
func TestRemoveEndsScripts(t *testing.T) {
	tree, root := newRoot(t)
	start(t, "wait", mkdir(t, root, "tacit", "checks", "run-1"))
	if err := tree.Remove(); err != nil {
		t.Fatal(err)
	}
	if exists(tree.ChecksPath()) {
		t.Error("the cgroup of the scripts is still there")
	}
}

func TestRemoveService(t *testing.T) {
	tree, _ := newRoot(t)
	if err := tree.RemoveService("never"); err != nil {
		t.Errorf("one that never was: %v", err)
	}
	if _, err := tree.ServiceCgroup("web"); err != nil {
		t.Fatal(err)
	}
	path := tree.ServicePath("web")
	busy := start(t, "wait", path)
	if err := tree.RemoveService("web"); err != nil || !exists(path) {
		t.Errorf("a busy one: exists %t, %v", exists(path), err)
	}
	busy.end()
	testhost.Eventually(t, 5*time.Second, "the end of the last process", func() error {
		if err := tree.RemoveService("web"); err != nil {
			return err
		}
		return gone(path)
	})
}

func TestWithin(t *testing.T) {
	_, root := newRoot(t)
	path := mkdir(t, root, "web")
	deep := mkdir(t, path, "a", "b")
	sibling := mkdir(t, root, "web2")
	number := func(path string) uint64 {
		id, err := workload.ID(path)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	for name, c := range map[string]struct {
		path string
		id   uint64
		want bool
	}{
		"itself":     {path, number(path), true},
		"below":      {path, number(deep), true},
		"above":      {path, number(root), false},
		"beside":     {path, number(sibling), false},
		"nobody":     {path, 0, false},
		"no cgroup":  {filepath.Join(root, "none"), number(path), false},
		"whole tree": {root, number(deep), true},
	} {
		if got := workload.Within(c.path, c.id); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

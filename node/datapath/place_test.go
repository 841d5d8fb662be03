// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tacit/internal/testhost"
	"tacit/node/workload"
)

// TestPlace: sockets of every cgroup that the daemon has had are its own.
func TestPlace(t *testing.T) {
	p := newPlace(7)
	for _, step := range []struct {
		do      func()
		current uint64
		made    []uint64
	}{
		{func() {}, 7, []uint64{7}},
		{func() { p.enter(8) }, 7, []uint64{7, 8}},
		{func() { p.settle(8) }, 8, []uint64{7, 8}},
		{func() { p.enter(9); p.settle(9) }, 9, []uint64{7, 8, 9}},
	} {
		step.do()
		for id := range uint64(10) {
			want := false
			for _, m := range step.made {
				want = want || m == id
			}
			if p.made(id) != want {
				t.Errorf("in %d: sockets of cgroup %d are the daemon's: %v", p.current(), id, !want)
			}
		}
		if p.current() != step.current {
			t.Errorf("in %d, want %d", p.current(), step.current)
		}
	}
}

// leave moves this process out of the daemon's cgroup, as an administrator might.
func leave(t *testing.T, tree workload.Tree) {
	t.Helper()
	testhost.Must(t, os.WriteFile(filepath.Join(tree.Root(), "init", "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0))
}

// inPlace fails the test unless this process is in the cgroup with that id.
func inPlace(t *testing.T, f *fixture, id uint64) {
	t.Helper()
	if d, err := f.tree.Daemon(); err != nil || !d.Inside || d.ID != id {
		t.Errorf("the daemon's cgroup: %+v, %v; want %d, with this process", d, err, id)
	}
}

// TestDaemonComesBack after others moved it out of its cgroup: nothing else changes.
func TestDaemonComesBack(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t).open(t)
	id, told := f.place.current(), f.hooks.told()
	f.watchPlace()
	differs(t, "repairs before", repaired(f.board), "")
	leave(t, f.tree)
	f.watchPlace()
	inPlace(t, f, id)
	if f.hooks.daemon != 0 || f.moved != 0 || f.hooks.told() != told {
		t.Errorf("programs are told of the cgroup %d and of %+v; moved %d times", f.hooks.daemon, f.hooks.told(), f.moved)
	}
	differs(t, "problems", wrong(f.board), "")
	differs(t, "repairs", repaired(f.board), "daemon's cgroup: the daemon was moved out of it")
}

// TestDaemonMovesToNewCgroup where the old one was removed: programs and probe
// are told, and the listeners for captured connections are new. What fails is
// tried again at the next look.
func TestDaemonMovesToNewCgroup(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t).open(t)
	f.accept(t)
	old, told := f.place.current(), f.hooks.told()
	leave(t, f.tree)
	testhost.Must(t, os.Remove(filepath.Join(f.tree.Root(), "tacit", "daemon")))
	f.hooks.err = errors.New("no such map")
	f.watchPlace()
	differs(t, "problems", wrong(f.board), "daemon's cgroup: no such map")
	differs(t, "repairs", repaired(f.board), "")
	f.hooks.err = nil
	f.watchPlace()
	id, err := f.tree.DaemonID()
	testhost.Must(t, err)
	inPlace(t, f, id)
	if id == old || f.hooks.daemon != id || f.place.current() != id || !f.place.made(old) || f.moved != 2 {
		t.Errorf("cgroup %d after %d, programs are told of %d; moved %d times", id, old, f.hooks.daemon, f.moved)
	}
	for i, ln := range f.Captured() {
		if now := f.hooks.told().Proxy[i]; now.Port == told.Proxy[i].Port || now.Port != portOf(ln) {
			t.Errorf("listening on %s; programs are told of %+v, before of %+v", ln.Addr(), now, told.Proxy[i])
		}
	}
	differs(t, "problems", wrong(f.board), "")
	differs(t, "repairs", repaired(f.board), "daemon's cgroup: it was removed")
	f.watchPlace()
	if f.moved != 2 {
		t.Error("moved once more")
	}
}

// TestOthersInDaemonsCgroup would be exempt, and are named.
func TestOthersInDaemonsCgroup(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t)
	out := shell(t, "setsid sh -c 'sleep 600 & echo $!' </dev/null 2>/dev/null | head -1")
	var stranger int
	_, err := fmt.Sscan(out, &stranger)
	testhost.Must(t, err)
	f.watchPlace()
	differs(t, "problems", wrong(f.board), fmt.Sprintf("daemon's cgroup: process %d is in it, too, and so exempt from everything: move it to another cgroup", stranger))
	p, err := os.FindProcess(stranger)
	testhost.Must(t, err)
	testhost.Must(t, p.Kill())
	testhost.Eventually(t, waitFor, "the stranger's end", func() error {
		if f.watchPlace(); wrong(f.board) != "" {
			return errors.New(strings.TrimSpace(wrong(f.board)))
		}
		return nil
	})
}

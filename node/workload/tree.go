// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"tacit/identity"
)

// Tree is what tacit makes below the hooked root: tacit/daemon for itself and
// tacit/services/NAME for the workloads started by `tacit run`.
type Tree struct{ root string }

// NewTree checks that root lies in a cgroup v2 tree. However root is written,
// Tree.Root has one form: absolute and clean.
func NewTree(root string) (Tree, error) {
	if err := Check(root); err != nil {
		return Tree{}, err
	}
	path, err := filepath.Abs(root)
	if err != nil {
		return Tree{}, fmt.Errorf("cgroup %s: %w", root, err)
	}
	return Tree{path}, nil
}

// Depth is how far the hooked root lies below the tree's own root.
func (t Tree) Depth() uint32 {
	top, err := Root()
	rel, ok := strings.CutPrefix(t.root, top)
	if err != nil || !ok {
		return 0 // from the top: deeper look-ups, no missed level
	}
	return uint32(len(strings.FieldsFunc(rel, func(r rune) bool { return r == '/' })))
}

// Root is the hooked root.
func (t Tree) Root() string { return t.root }

func (t Tree) own() string    { return filepath.Join(t.root, "tacit") }
func (t Tree) daemon() string { return filepath.Join(t.own(), "daemon") }
func (t Tree) service(name identity.Name) string {
	return filepath.Join(t.own(), "services", string(name))
}

// EnterDaemon moves this process into its own leaf, which exempts its sockets,
// and returns the leaf's id. It must come before any socket is opened, and it
// refuses when another process is in there: that one would be exempt as well.
func (t Tree) EnterDaemon() (uint64, error) {
	leaf := t.daemon()
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		return 0, fmt.Errorf("the daemon's cgroup: %w", err)
	}
	others, err := procs(leaf)
	if err != nil {
		return 0, err
	}
	for _, pid := range others {
		if pid != os.Getpid() {
			return 0, fmt.Errorf("process %d is in the daemon's own cgroup %s: stop it (another tacitd?) or use another --cgroup", pid, leaf)
		}
	}
	if err := enter(leaf, os.Getpid()); err != nil {
		return 0, err
	}
	return ID(leaf)
}

// Daemons are the processes in the daemon's leaf now.
func (t Tree) Daemons() []int {
	pids, _ := procs(t.daemon()) // no leaf, no daemon
	return pids
}

// DaemonID is the id of the daemon's leaf.
func (t Tree) DaemonID() (uint64, error) { return ID(t.daemon()) }

// LeaveDaemon undoes EnterDaemon where the start failed: the process goes back
// to the cgroup it came from, and the leaf goes.
func (t Tree) LeaveDaemon(back string) error {
	if err := t.leave(back); err != nil {
		return err
	}
	for _, dir := range []string{t.daemon(), filepath.Dir(t.daemon())} {
		if err := os.Remove(dir); err != nil {
			return nil // others are in there: theirs
		}
	}
	return nil
}

// Own returns the cgroup that this process is in, for LeaveDaemon.
func Own() (string, error) { return cgroupOf(os.Getpid()) }

func cgroupOf(pid int) (string, error) {
	top, err := Root()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", fmt.Errorf("cgroup of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(top, path), nil
		}
	}
	return "", ErrNoTree
}

// ServicePath is the cgroup of `tacit run NAME`.
func (t Tree) ServicePath(name identity.Name) string { return t.service(name) }

// ServiceCgroup makes the cgroup for `tacit run NAME` and returns its id.
func (t Tree) ServiceCgroup(name identity.Name) (uint64, error) {
	if err := os.MkdirAll(t.service(name), 0o755); err != nil {
		return 0, fmt.Errorf("the workload's cgroup: %w", err)
	}
	return ID(t.service(name))
}

// Admit moves the process behind pidfd into the service's cgroup; a pidfd
// below 0 is none. A pidfd doesn't reserve its process's number, so the process
// must live before and after the move: then the number meant it all the while.
func (t Tree) Admit(name identity.Name, pid, pidfd int) error {
	if pid <= 0 { // the kernel would take 0 for the daemon itself
		return fmt.Errorf("process %d can't be moved: the daemon doesn't see it; start it in the daemon's process namespace", pid)
	}
	if err := alive(pid, pidfd); err != nil {
		return err
	}
	if err := enter(t.service(name), pid); err != nil {
		return err
	}
	if err := alive(pid, pidfd); err != nil {
		return errors.Join(err, t.expel(pid))
	}
	return nil
}

func alive(pid, pidfd int) error {
	if pidfd < 0 {
		return nil
	}
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil {
		return fmt.Errorf("process %d ended before it could be moved: %w", pid, err)
	}
	return nil
}

// expel takes out what may be another process by now. Where that one came from
// isn't known; tacit/ itself is nobody's workload.
func (t Tree) expel(pid int) error {
	err := enter(t.own(), pid)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// RemoveService removes the service's cgroup where no process is left in it.
func (t Tree) RemoveService(name identity.Name) error {
	if err := os.Remove(t.service(name)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("the workload's cgroup: %w", err)
	}
	return nil
}

// Remove removes everything below tacit/ that is empty; processes that still
// run keep their cgroup.
func (t Tree) Remove() error {
	var dirs []string
	err := filepath.WalkDir(t.own(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := os.Remove(dirs[i]); err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	return nil
}

// Within says whether the cgroup of that id is path or lies below it.
func Within(path string, id uint64) bool {
	found := false
	_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		if got, err := ID(p); err == nil && got == id {
			found = true
			return filepath.SkipAll
		}
		return nil
	})
	return found
}

// verdict is what a search makes of one directory.
type verdict int

const (
	pass    verdict = iota // neither this one nor what is below
	descend                // perhaps one below
	take                   // this one
)

// find returns the first directory, in path order and at most six levels below root, that judge takes.
func find(root string, judge func(path string) verdict) (string, bool) {
	found := ""
	_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || p == root {
			return nil
		}
		v := judge(p)
		switch {
		case v == take:
			found = p
			return filepath.SkipAll
		case v == pass, strings.Count(strings.TrimPrefix(p, root), "/") >= 6:
			return fs.SkipDir
		}
		return nil
	})
	return found, found != ""
}

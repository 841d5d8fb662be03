// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tacit/identity"
)

// Tree is the cgroup tree below the hooked root. tacit makes cgroups of its own
// in it: tacit/daemon for itself, tacit/services/NAME for `tacit run NAME`.
type Tree struct{ root string }

// NewTree checks that root is in a cgroup v2 tree. Tree.Root is absolute and
// clean, however root is written.
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

// Depth is how many levels the hooked root lies below the tree's own root.
func (t Tree) Depth() uint32 {
	top, err := Root()
	rel, ok := strings.CutPrefix(t.root, top)
	if err != nil || !ok {
		return 0 // the hooks then look up more levels than needed
	}
	return uint32(len(strings.FieldsFunc(rel, func(r rune) bool { return r == '/' })))
}

// Root is the hooked root.
func (t Tree) Root() string { return t.root }

func (t Tree) own() string      { return filepath.Join(t.root, "tacit") }
func (t Tree) daemon() string   { return filepath.Join(t.own(), "daemon") }
func (t Tree) services() string { return filepath.Join(t.own(), "services") }
func (t Tree) service(name identity.Name) string {
	return filepath.Join(t.services(), string(name))
}

// EnterDaemon moves this process into the daemon's leaf, which exempts its
// sockets, and returns the leaf's id. Call it before opening any socket. It
// refuses where another process is in the leaf, which would be exempt as well, but for
// those of earlier daemons whose work this one takes over.
func (t Tree) EnterDaemon(earlier ...int) (uint64, error) {
	leaf := t.daemon()
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		return 0, fmt.Errorf("make the daemon's cgroup: %w", err)
	}
	others, err := procs(leaf)
	if err != nil {
		return 0, err
	}
	for _, pid := range others {
		if pid != os.Getpid() && !slices.Contains(earlier, pid) {
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
	pids, _ := procs(t.daemon()) // without a leaf there is no daemon
	return pids
}

// DaemonID is the id of the daemon's leaf.
func (t Tree) DaemonID() (uint64, error) { return ID(t.daemon()) }

// LeaveDaemon undoes EnterDaemon after a failed start: it moves this process to
// back, the cgroup that it came from, and removes the leaf.
func (t Tree) LeaveDaemon(back string) error {
	if err := t.leave(back); err != nil {
		return err
	}
	for _, dir := range []string{t.daemon(), filepath.Dir(t.daemon())} {
		if err := os.Remove(dir); err != nil {
			return nil // in use by others
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
		return 0, fmt.Errorf("make the workload's cgroup: %w", err)
	}
	return ID(t.service(name))
}

// Admit moves the process pid into the service's cgroup. pidfd refers to the
// same process; below 0 there is none. A pidfd doesn't keep the process number
// from being reused, so the process must be alive both before and after the
// move: then no other process had the number in between.
func (t Tree) Admit(name identity.Name, pid, pidfd int) error {
	if pid <= 0 { // the kernel would move the daemon itself for 0
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

// expel moves a process that may not be the intended one out of the workload.
// Its former cgroup isn't known; tacit/ itself belongs to no workload.
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
		return fmt.Errorf("remove the workload's cgroup: %w", err)
	}
	return nil
}

// Remove removes the cgroups below tacit/ that have no process in them. The
// self-probe's process and the scripts of health checks, which outlive a daemon
// that was killed, are ended first.
func (t Tree) Remove() error {
	end(t.ProbePath())
	end(t.ChecksPath())
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
	for i := len(dirs) - 1; i >= 0; i-- { // children first
		if err := os.Remove(dirs[i]); err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// aside is the cgroup of a child of the daemon with that process number. The
// child must not be in the daemon's own cgroup, which is exempt, nor in that of
// a unit, which ends with the unit.
func (t Tree) aside(daemon int) string {
	return filepath.Join(t.own(), "confirm."+strconv.Itoa(daemon))
}

// MakeAside makes the cgroup for a child that the daemon starts with
// CLONE_INTO_CGROUP, and opens it. The caller closes it.
func (t Tree) MakeAside(daemon int) (*os.File, error) {
	dir := t.aside(daemon)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a cgroup for a child: %w", err)
	}
	return os.Open(dir)
}

// LeaveAside moves this process from such a cgroup to back, where the daemon
// was started, and removes the cgroup.
func (t Tree) LeaveAside(back string) error {
	dir, err := Own()
	if err != nil {
		return err
	}
	if err := t.leave(back); err != nil {
		return err
	}
	if !inside(t.own(), dir) {
		return nil
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a child's cgroup: %w", err)
	}
	_ = os.Remove(t.own()) // fails where something else is in it
	return nil
}

// leave moves this process to back, or to the hooked root where back is gone.
func (t Tree) leave(back string) error {
	if enter(back, os.Getpid()) == nil {
		return nil
	}
	return enter(t.root, os.Getpid())
}

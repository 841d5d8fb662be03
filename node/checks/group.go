// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxProcesses = 64        // of one script
	maxMemory    = 256 << 20 // bytes of one script, where the memory controller exists
	groupTick    = 5 * time.Millisecond
	groupEnds    = time.Second // how long the kernel may take to end a group
)

// group is the cgroup of one run of a script.
type group struct {
	path    string
	limited bool // the kernel counts its processes
}

// openScripts makes the cgroup below which scripts run, and ends what is in it.
// Controllers are handed down where the host has them in the v2 tree.
func openScripts(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(path), path} {
		for _, controller := range []string{"+pids", "+memory"} {
			_ = write(dir, "cgroup.subtree_control", controller) // else scripts are bounded in time and by counting
		}
	}
	return errors.Join((&group{path: path}).end(), removeBelow(path))
}

func removeBelow(path string) error {
	left, err := filepath.Glob(filepath.Join(path, "run-*"))
	for _, dir := range left {
		err = errors.Join(err, removeTree(dir))
	}
	return err
}

func newGroup(parent string) (*group, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil { // somebody may have removed it
		return nil, err
	}
	path, err := os.MkdirTemp(parent, "run-")
	if err != nil {
		return nil, fmt.Errorf("a cgroup for the script: %w", err)
	}
	g := &group{path: path}
	g.limit()
	return g, nil
}

// limit sets what the host's controllers can hold.
func (g *group) limit() {
	g.limited = write(g.path, "pids.max", strconv.Itoa(maxProcesses)) == nil
	_ = write(g.path, "memory.max", strconv.Itoa(maxMemory))
	_ = write(g.path, "memory.swap.max", "0")
}

// launch starts a process. Where the kernel doesn't count processes, those of a
// script must not keep this one from counting and ending them, so they run only
// when nothing else wants to: they inherit that from the thread that forks.
func (g *group) launch(cmd *exec.Cmd) error {
	if g.limited {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return cmd.Start()
	}
	idle := *before
	idle.Policy = unix.SCHED_IDLE
	if unix.SchedSetAttr(0, &idle, 0) == nil {
		defer func() { _ = unix.SchedSetAttr(0, before, 0) }()
	}
	return cmd.Start()
}

func write(dir, file, text string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// tick is when to count the processes, never where the kernel does.
func (g *group) tick(t *time.Ticker) <-chan time.Time {
	if g.limited {
		return nil
	}
	return t.C
}

// size is how many processes are in the group itself.
func (g *group) size() int {
	text, err := os.ReadFile(filepath.Join(g.path, "cgroup.procs"))
	if err != nil {
		return 0
	}
	return bytes.Count(text, []byte("\n"))
}

// kill ends every process in the group and below it at once, those that are
// being forked too.
func (g *group) kill() { _ = write(g.path, "cgroup.kill", "1") }

// end kills, and waits until the group is empty.
func (g *group) end() error {
	g.kill()
	for deadline := time.Now().Add(groupEnds); ; time.Sleep(groupTick) {
		text, err := os.ReadFile(filepath.Join(g.path, "cgroup.events"))
		if err != nil || !bytes.Contains(text, []byte("populated 1")) {
			return nil // gone, or no cgroup at all
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes in %s don't end", g.path)
		}
	}
}

// remove removes the group. What can't be ended stays, and openScripts tries
// again.
func (g *group) remove() {
	if g.end() == nil {
		_ = removeTree(g.path)
	}
}

// removeTree removes a cgroup, and those that a script has made in it.
func removeTree(path string) error {
	var dirs []string
	err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		err = errors.Join(err, os.Remove(dirs[i]))
	}
	return err
}

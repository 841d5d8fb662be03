// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// runLimit is how long Run waits before it kills the program.
const runLimit = time.Minute

// asHost mounts the host's resolv.conf in the program's own mount namespace and
// then execs the program, so that the process id stays the same.
const asHost = `[ ! -e /etc/resolv.conf ] || mount --bind "$0" /etc/resolv.conf && exec "$@"`

// Command prepares a program that runs in the host's network namespace and,
// from its first instruction, in a child cgroup of the host (made on demand;
// "" is the host's own). The process id is the program's. TACIT_SOCKET names
// the host's daemon. Input, output and the rest of Cmd are the caller's.
func (h *Host) Command(cgroup, name string, args ...string) *exec.Cmd {
	words := []string{"--net=" + h.Namespace(), "--", "unshare", "--mount", "--", "sh", "-c", asHost, h.resolvConf(), name}
	cmd := exec.Command("nsenter", append(words, args...)...)
	cmd.Env = append(os.Environ(), "TACIT_SOCKET="+h.Socket())
	cmd.WaitDelay = 2 * time.Second // a grandchild may hold the output open
	fd, err := h.openCgroup(cgroup)
	if err != nil {
		cmd.Err = err // Start returns it
		return cmd
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	return cmd
}

// openCgroup makes a child cgroup and returns its descriptor, which stays open
// as long as the host exists.
func (h *Host) openCgroup(child string) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	path := h.CgroupPath(child)
	if fd, ok := h.cgroups[path]; ok && sameDir(fd, path) {
		return fd, nil
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return -1, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if old, ok := h.cgroups[path]; ok {
		_ = unix.Close(old)
	}
	h.cgroups[path] = fd
	return fd, nil
}

func (h *Host) closeCgroups() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, fd := range h.cgroups {
		_ = unix.Close(fd)
	}
	clear(h.cgroups)
}

// sameDir reports whether path still is the directory behind the descriptor:
// `tacitd cleanup` may have removed the cgroup.
func sameDir(fd int, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(fd, &a) == nil && unix.Stat(path, &b) == nil && a.Ino == b.Ino
}

// Run runs a program for at most a minute and returns its standard output and
// error, interleaved as they were written, and its exit status.
func (h *Host) Run(t testing.TB, cgroup, name string, args ...string) (out string, exit int) {
	t.Helper()
	var all bytes.Buffer
	cmd := h.Command(cgroup, name, args...)
	cmd.Stdout, cmd.Stderr = &all, &all
	exit = h.finish(t, cmd)
	return all.String(), exit
}

// Output is Run with standard output and error apart.
func (h *Host) Output(t testing.TB, cgroup, name string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := h.Command(cgroup, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	exit = h.finish(t, cmd)
	return out.String(), errs.String(), exit
}

func (h *Host) finish(t testing.TB, cmd *exec.Cmd) int {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
	timer := time.AfterFunc(runLimit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !timer.Stop() {
		t.Fatalf("%s$ %s: still running after %s", h.Name, strings.Join(cmd.Args, " "), runLimit)
	}
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("%s: %v", h.Name, err)
	}
	return cmd.ProcessState.ExitCode()
}

// Python is the distribution's own interpreter, not a wrapper of the same name.
func Python() string {
	const stock = "/usr/bin/python3"
	if _, err := os.Stat(stock); err == nil {
		return stock
	}
	return "python3"
}

// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tacit/node/config"
	"tacit/node/workload"
)

// WatchdogCommand is the subcommand of tacitd that calls Watchdog.
const WatchdogCommand = "undo-unless-confirmed"

const (
	watchdogTick = 200 * time.Millisecond
	// hangTime is what a live daemon has to undo its start by itself; after it
	// the daemon counts as hanging and is killed.
	hangTime = 5 * time.Second
)

// startWatchdog starts a child that outlives the daemon: in a session of its
// own, which no lost terminal ends, and in a cgroup of its own, which is
// neither exempt nor part of the daemon's unit.
func startWatchdog(c DeadlineConfig, mark string) error {
	dir, err := c.Tree.MakeAside(os.Getpid())
	if err != nil {
		return err
	}
	defer dir.Close()
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("pidfd of this process: %w", err)
	}
	pidfd := os.NewFile(uintptr(self), "pidfd")
	defer pidfd.Close()
	cmd := exec.Command("/proc/self/exe", watchdogArgs(c, mark)...)
	cmd.Args[0] = "tacitd"
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{pidfd} // descriptor 3
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the watchdog: %w", err)
	}
	go func() { _ = cmd.Wait() }() // it ends soon after the deadline or the confirmation
	return nil
}

func watchdogArgs(c DeadlineConfig, mark string) []string {
	s := c.Settings
	return []string{WatchdogCommand, "--run-dir", s.RunDir, "--bpffs-dir", s.BPFDir, "--cgroup", c.Tree.Root(), "--state-dir", s.StateDir, mark, c.From}
}

// Watchdog waits for the deadline that has this mark. Where the start is still
// unconfirmed then, it undoes the start: at once when the daemon, known by its
// pidfd, has ended, else after the time in which a live daemon does so itself;
// then it kills the daemon. It returns what it undid. At its end it moves to
// the cgroup back.
func Watchdog(c config.Config, mark, back string, daemon *os.File) (undone []string, err error) {
	tree, err := workload.NewTree(c.Cgroup)
	if err != nil {
		return nil, err
	}
	w := watchdog{path: deadlineFile(c.Paths), mark: mark, end: endOf(mark, bootID()), daemon: daemon, hangTime: hangTime}
	unconfirmed := w.wait()
	err = tree.LeaveAside(back)
	if !unconfirmed {
		return nil, err
	}
	undone, more := Cleanup(c)
	return undone, errors.Join(err, more)
}

// watchdog waits for one deadline of one daemon.
type watchdog struct {
	path     string // of the deadline's file
	mark     string
	end      time.Duration // by boot time
	daemon   *os.File      // pidfd
	hangTime time.Duration
}

// wait returns true when the start must be undone and its daemon is gone, false
// when the start was confirmed or the deadline is another daemon's.
func (w watchdog) wait() bool {
	for ; ; time.Sleep(watchdogTick) {
		gone := w.gone() // before the file: a confirmed daemon may end at any time
		now, err := os.ReadFile(w.path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && string(now) != w.mark {
			return false
		}
		switch late := bootTime() - w.end; {
		case late < 0:
		case gone:
			return true
		case late >= w.hangTime:
			_ = unix.PidfdSendSignal(int(w.daemon.Fd()), unix.SIGKILL, nil, 0)
		}
	}
}

// gone reports whether the daemon has ended: its pidfd is readable then, see
// pidfd_open(2).
func (w watchdog) gone() bool {
	poll := []unix.PollFd{{Fd: int32(w.daemon.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n == 1 && poll[0].Revents&unix.POLLIN != 0
}

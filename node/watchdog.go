// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tacit/node/workload"
)

// WatchdogCommand is the subcommand of tacitd that calls Watchdog.
const WatchdogCommand = "undo-unless-confirmed"

// hangTime is what a daemon has to undo its start by itself after the window's
// end; then it hangs, and is killed.
const hangTime = 5 * time.Second

// startWatchdog starts a child that outlives the daemon: in a session of its
// own, where no lost terminal reaches it, and in a cgroup of its own, which is
// neither exempt nor the unit's.
func (n *Node) startWatchdog(mark string) error {
	dir, err := n.tree.MakeAside(os.Getpid())
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
	cmd := exec.Command("/proc/self/exe", WatchdogCommand, "--run-dir", n.cfg.RunDir, "--bpffs-dir", n.cfg.BPFDir,
		"--cgroup", n.tree.Root(), "--state-dir", n.cfg.StateDir, mark, n.from)
	cmd.Args[0] = "tacitd"
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{pidfd} // descriptor 3
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the watchdog: %w", err)
	}
	go func() { _ = cmd.Wait() }() // it ends by itself soon after the window
	return nil
}

// Watchdog waits for the end of a window by its mark. Where the window is still
// open then, it undoes the start: at once when the daemon, known by its pidfd,
// has ended, else after a moment in which a daemon that lives does so itself;
// one that doesn't is killed. It returns what it undid. Back is the cgroup
// that the watchdog moves to at its end.
func Watchdog(c Config, mark, back string, daemon *os.File) (undone []string, err error) {
	tree, err := workload.NewTree(c.Cgroup)
	if err != nil {
		return nil, err
	}
	open := waitWindow(c, mark, int(daemon.Fd()))
	err = tree.LeaveAside(back)
	if !open {
		return nil, err
	}
	undone, more := Cleanup(c)
	return undone, errors.Join(err, more)
}

// waitWindow returns true when the start must be undone and its daemon is no
// more, false when the window was closed or is another daemon's.
func waitWindow(c Config, mark string, pidfd int) bool {
	end := endOf(mark)
	for ; ; time.Sleep(windowTick) {
		now, err := os.ReadFile(c.windowPath())
		if errors.Is(err, fs.ErrNotExist) || err == nil && string(now) != mark {
			return false
		}
		switch late := bootTime() - end; {
		case late < 0:
		case ended(pidfd):
			return true
		case late >= hangTime:
			_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		}
	}
}

// ended says whether a pidfd's process is no more.
func ended(pidfd int) bool {
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n == 1
}

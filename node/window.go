// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tacit/node/api"
)

// The window is the time in which a start can be confirmed. Its file stands in
// RunDir while it is open; whoever confirms removes it. At its end the daemon
// undoes its start, or the watchdog does, where the daemon can't (watchdog.go).
type window struct {
	path string
	mark string        // the file's content, which nobody else's has
	end  time.Duration // by boot time

	mu    sync.Mutex
	state windowState
}

type windowState int

const (
	windowClosed windowState = iota // there is none, or it was confirmed
	windowOpen
	windowOver // not confirmed
)

const windowTick = 200 * time.Millisecond

var errUnconfirmed = errors.New("not confirmed in time")

// windowPath is where an open window is written down.
func (c Config) windowPath() string { return filepath.Join(c.RunDir, "unconfirmed") }

// bootTime is the time since boot, sleep included: no clock can be set under it.
func bootTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0 // can't be: every kernel that loads our programs has it
	}
	return time.Duration(ts.Nano())
}

func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}

// markOf is the content of a window's file.
func markOf(end time.Duration, pid int) string { return fmt.Sprintf("%s %d %d\n", bootID(), end, pid) }

// endOf reads a window's end from its mark; 0 for one of another boot.
func endOf(mark string) time.Duration {
	var boot string
	var end time.Duration
	if n, _ := fmt.Sscanf(mark, "%s %d", &boot, &end); n != 2 || boot != bootID() {
		return 0
	}
	return end
}

// openWindow begins the time of --confirm, before anything in the kernel
// changes. A start within the window of an earlier one that ended inherits that
// one's end: else a daemon that is started again and again would never be undone.
func (n *Node) openWindow() error {
	now, path := bootTime(), n.cfg.windowPath()
	end := time.Duration(0)
	if n.cfg.Confirm > 0 {
		end = now + n.cfg.Confirm
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--confirm: %w", err)
	}
	if left := endOf(string(old)); left > now && (end == 0 || left < end) {
		n.log.Warn("an earlier start waits to be confirmed", "undone_in", (left - now).Round(time.Second), "do", "tacit confirm")
		end = left
	}
	if end == 0 {
		_ = os.Remove(path) // of another boot
		return nil
	}
	n.window.path, n.window.end, n.window.mark = path, end, markOf(end, os.Getpid())
	if err := writeWhole(path, n.window.mark); err != nil {
		return fmt.Errorf("--confirm: %w", err)
	}
	if err := n.startWatchdog(n.window.mark); err != nil {
		return fmt.Errorf("--confirm: %w", errors.Join(err, os.Remove(path)))
	}
	n.window.state = windowOpen
	return nil
}

// writeWhole makes a file appear with its whole content.
func writeWhole(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// run returns errUnconfirmed at the window's end, nil when ctx ends before.
func (w *window) run(ctx context.Context) error {
	tick := time.NewTicker(windowTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if w.expire() {
			return errUnconfirmed
		}
	}
}

func (w *window) expire() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == windowOpen && bootTime() >= w.end {
		w.state = windowOver
	}
	return w.state == windowOver
}

// confirm closes the window. It says whether there was one to close.
func (w *window) confirm() (bool, error) {
	if w.expire() {
		return false, api.Refused("start tacitd again, and confirm sooner", "too late: everything is being undone now")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == windowClosed {
		return false, nil
	}
	if err := os.Remove(w.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("not confirmed: %w", err)
	}
	w.state = windowClosed
	return true, nil
}

// left is the time until all is undone; open is false when it won't be.
func (w *window) left() (left time.Duration, open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(0, w.end-bootTime()), w.state != windowClosed
}

// takeBack undoes a start that wasn't confirmed, as tacitd cleanup does.
func (n *Node) takeBack() error {
	n.close()
	err := n.tree.LeaveDaemon(n.from)
	_, more := Cleanup(n.cfg.Config)
	if err := errors.Join(err, more); err != nil {
		return fmt.Errorf("not confirmed in time (tacit confirm), and not everything could be undone: %w; run tacitd cleanup", err)
	}
	return errors.New("not confirmed in time (tacit confirm): everything was undone")
}

// Confirm makes a start permanent.
func (b backend) Confirm(context.Context, api.ConfirmRequest) (*api.ConfirmResult, error) {
	had, err := b.n.window.confirm()
	if err != nil || !had {
		return &api.ConfirmResult{}, err
	}
	b.n.log.Info("confirmed: what was changed stays")
	hooks, err := b.n.objects.Status()
	if err != nil {
		return nil, err
	}
	out := &api.ConfirmResult{Confirmed: true, Permanent: []string{
		fmt.Sprintf("%d eBPF programs on the cgroup %s and this network namespace", len(hooks), b.n.tree.Root()),
		"their maps and links, pinned below " + b.n.cfg.BPFDir,
	}}
	for line := range strings.Lines(b.n.plan.Load().String()) {
		out.Permanent = append(out.Permanent, strings.TrimSpace(line))
	}
	return out, nil
}

// checkConfirm is the countdown, while there is one.
func (b backend) checkConfirm() []api.Check {
	left, open := b.n.window.left()
	if !open {
		return nil
	}
	return []api.Check{{Name: "confirm", OK: true, Reason: fmt.Sprintf("unconfirmed: undone in %d s unless tacit confirm", int(left.Seconds()))}}
}

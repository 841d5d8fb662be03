// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"tacit/node/api"
	"tacit/node/config"
	"tacit/node/workload"
)

// ErrUnconfirmed ends a daemon that nobody confirmed in time.
var ErrUnconfirmed = errors.New("not confirmed in time")

// DeadlineConfig is what OpenDeadline works with.
type DeadlineConfig struct {
	Settings *config.Settled
	Tree     workload.Tree
	From     string // the cgroup that the daemon came from: the watchdog ends there
	Log      *slog.Logger
}

// Deadline is the time by which a start must be confirmed. After it, the daemon
// undoes the start; where the daemon hangs or is dead, its watchdog does. Safe
// for concurrent use.
type Deadline struct {
	path      string
	end       time.Duration // by boot time
	now       func() time.Duration
	confirmed chan struct{}

	mu   sync.Mutex
	open bool // false: there was none, or it was confirmed
}

// OpenDeadline begins the time of --confirm and starts the watchdog; call it
// before anything in the kernel changes, and once RunDir is there. A start
// within the deadline of an earlier one inherits that deadline: else a daemon
// that is started again and again would never be undone. With neither, the
// Deadline returned never ends.
func OpenDeadline(c DeadlineConfig) (*Deadline, error) {
	d := newDeadline(deadlineFile(c.Settings.Paths), bootTime)
	old, err := os.ReadFile(d.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("--confirm: %w", err)
	}
	now := d.now()
	end, inherited := endOfStart(now, c.Settings.Confirm, endOf(string(old), bootID()))
	if inherited {
		c.Log.Warn("an earlier start still waits to be confirmed", "undone_in", (end - now).Round(time.Second), "do", "tacit confirm")
	}
	if end == 0 {
		_ = os.Remove(d.path) // of another boot
		return d, nil
	}
	mark := newMark(bootID(), end, os.Getpid())
	if err := writeWhole(d.path, mark); err != nil {
		return nil, fmt.Errorf("--confirm: %w", err)
	}
	if err := startWatchdog(c, mark); err != nil {
		return nil, fmt.Errorf("--confirm: %w", errors.Join(err, os.Remove(d.path)))
	}
	d.end, d.open = end, true
	return d, nil
}

func newDeadline(path string, now func() time.Duration) *Deadline {
	return &Deadline{path: path, now: now, confirmed: make(chan struct{})}
}

// endOfStart is the earlier of --confirm's end and that of an earlier start, by
// boot time; 0: the start needs no confirmation.
func endOfStart(now, confirm, earlier time.Duration) (end time.Duration, inherited bool) {
	if confirm > 0 {
		end = now + confirm
	}
	if earlier > now && (end == 0 || earlier < end) {
		return earlier, true
	}
	return end, false
}

// recheck bounds how late the end is noticed: Go's timers stand still while the
// host is suspended, the deadline's clock doesn't.
const recheck = time.Second

// Run returns ErrUnconfirmed at the deadline, nil when ctx ends before.
func (d *Deadline) Run(ctx context.Context) error {
	for {
		left, open := d.Left()
		if !open {
			<-ctx.Done()
			return nil
		}
		if left == 0 {
			return ErrUnconfirmed
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.confirmed:
		case <-time.After(min(left, recheck)):
		}
	}
}

// Confirm makes the start permanent. had is false where nothing waited for it;
// after the deadline it is refused.
func (d *Deadline) Confirm() (had bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.open {
		return false, nil
	}
	if d.now() >= d.end {
		return false, api.Refused("start tacitd again, and confirm sooner", "too late: everything is being undone now")
	}
	if err := os.Remove(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("not confirmed: %w", err)
	}
	d.open = false
	close(d.confirmed)
	return true, nil
}

// Left is the time until everything is undone. open is false where nothing will be.
func (d *Deadline) Left() (left time.Duration, open bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(0, d.end-d.now()), d.open
}

// Expired reports whether the deadline has passed without a confirmation.
func (d *Deadline) Expired() bool {
	left, open := d.Left()
	return open && left == 0
}

// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tacit/node/api"
	"tacit/node/config"
)

// TestEndOfStart: when a start at 100 s of boot time must be confirmed.
func TestEndOfStart(t *testing.T) {
	const now = 100 * time.Second
	for _, row := range []struct {
		name             string
		confirm, earlier time.Duration
		want             time.Duration
		inherited        bool
	}{
		{"no --confirm, no earlier start", 0, 0, 0, false},
		{"--confirm alone", 60 * time.Second, 0, 160 * time.Second, false},
		{"an earlier start waits", 0, 130 * time.Second, 130 * time.Second, true},
		{"an earlier start ends first", 60 * time.Second, 130 * time.Second, 130 * time.Second, true},
		{"an earlier start ends later", 20 * time.Second, 130 * time.Second, 120 * time.Second, false},
		{"an earlier start has ended", 0, 90 * time.Second, 0, false},
		{"an earlier start has ended, --confirm", 60 * time.Second, 90 * time.Second, 160 * time.Second, false},
	} {
		if end, inherited := endOfStart(now, row.confirm, row.earlier); end != row.want || inherited != row.inherited {
			t.Errorf("%s: %s, inherited %t, want %s, %t", row.name, end, inherited, row.want, row.inherited)
		}
	}
}

// clock is boot time in a bubble of synctest, which the test can let jump as a
// suspend does. It counts who looks.
type clock struct {
	start time.Time
	jump  atomic.Int64
	looks atomic.Int64
}

func (c *clock) now() time.Duration {
	c.looks.Add(1)
	return time.Since(c.start) + time.Duration(c.jump.Load())
}

// openFor is a deadline that ends in left, with its file; 0: there is none.
func openFor(t *testing.T, left time.Duration) (*Deadline, *clock) {
	t.Helper()
	c := &clock{start: time.Now()}
	d := newDeadline(filepath.Join(t.TempDir(), "unconfirmed"), c.now)
	if left > 0 {
		write(t, d.path, "mark")
		d.end, d.open = left, true
	}
	return d, c
}

// TestRun is a table of how Run ends: what happens during it, and what it
// returns when.
func TestRun(t *testing.T) {
	for _, row := range []struct {
		name  string
		left  time.Duration // until the deadline; 0: there is none
		event func(*Deadline, *clock)
		want  error
		after time.Duration // where it isn't stopped, at an hour
		looks int64         // at the clock, at most
	}{
		{name: "no deadline: it waits and never wakes", after: time.Hour, looks: 1},
		{name: "nobody confirms", left: time.Minute, want: ErrUnconfirmed, after: time.Minute, looks: 62},
		{name: "less than a second is left", left: 100 * time.Millisecond, want: ErrUnconfirmed, after: 100 * time.Millisecond, looks: 2},
		{name: "confirmed: it wakes no more", left: time.Minute, event: func(d *Deadline, _ *clock) { _, _ = d.Confirm() }, after: time.Hour, looks: 14},
		{name: "the host is suspended past the deadline", left: time.Minute, event: func(_ *Deadline, c *clock) { c.jump.Store(int64(time.Hour)) },
			want: ErrUnconfirmed, after: 11 * time.Second, looks: 13},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, c := openFor(t, row.left)
			ctx, stop := context.WithTimeout(t.Context(), time.Hour)
			defer stop()
			if row.event != nil {
				time.AfterFunc(10*time.Second+time.Millisecond, func() { row.event(d, c) })
			}
			start := time.Now()
			err := d.Run(ctx)
			if after := time.Since(start); !errors.Is(err, row.want) || after != row.after {
				t.Errorf("%s: %v after %s, want %v after %s", row.name, err, after, row.want, row.after)
			}
			if n := c.looks.Load(); n > row.looks {
				t.Errorf("%s: %d looks at the clock, want %d at most", row.name, n, row.looks)
			}
		})
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := openFor(t, time.Minute)
		ctx, stop := context.WithTimeout(t.Context(), time.Second/2)
		defer stop()
		if err := d.Run(ctx); err != nil || d.Expired() {
			t.Errorf("%v, expired %t", err, d.Expired())
		}
		if left, open := d.Left(); left != time.Minute-time.Second/2 || !open {
			t.Errorf("%s left, open %t", left, open)
		}
	})
}

// TestConfirm: once, in time, and by removing the file.
func TestConfirm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := openFor(t, time.Minute)
		if had, err := d.Confirm(); !had || err != nil || exists(d.path) {
			t.Errorf("had %t, %v, file there %t", had, err, exists(d.path))
		}
		if _, open := d.Left(); open {
			t.Error("still open")
		}
		if had, err := d.Confirm(); had || err != nil {
			t.Errorf("a second time: had %t, %v", had, err)
		}
	})
}

func TestConfirmTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, c := openFor(t, time.Minute)
		c.jump.Store(int64(time.Minute))
		had, err := d.Confirm()
		if refused, ok := errors.AsType[*api.Error](err); had || !ok || refused.Code != api.CodeRefused || !strings.HasPrefix(refused.Message, "too late") {
			t.Errorf("had %t, %v", had, err)
		}
		if left, open := d.Left(); !d.Expired() || !open || left != 0 || !exists(d.path) {
			t.Errorf("expired %t, open %t, %s left, file there %t", d.Expired(), open, left, exists(d.path))
		}
	})
}

// TestConfirmWithoutRemoving: a file that stays would let the watchdog undo the
// start, so the start isn't confirmed.
func TestConfirmWithoutRemoving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := openFor(t, time.Minute)
		if err := os.Remove(d.path); err != nil {
			t.Fatal(err)
		}
		write(t, mkdir(t, d.path)+"/file", "") // a folder that isn't empty can't be removed
		if had, err := d.Confirm(); had || err == nil || !strings.HasPrefix(err.Error(), "not confirmed") {
			t.Errorf("had %t, %v", had, err)
		}
		if _, open := d.Left(); !open {
			t.Error("closed")
		}
	})
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOpenWithoutConfirm: no deadline, no watchdog; what another boot left goes.
func TestOpenWithoutConfirm(t *testing.T) {
	for name, old := range map[string]string{
		"nothing there":               "",
		"a deadline of another boot":  newMark("another-boot", 1<<60, 1),
		"a deadline that has passed":  newMark(bootID(), 1, 1),
		"a file that is no deadline":  "?",
		"a file that was cut in half": bootID(),
	} {
		s := &config.Settled{Config: validConfig(t.TempDir())}
		path := deadlineFile(s.Paths)
		mkdir(t, s.RunDir)
		if old != "" {
			write(t, path, old)
		}
		var log bytes.Buffer
		d, err := OpenDeadline(DeadlineConfig{Settings: s, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		had, err := d.Confirm()
		if _, open := d.Left(); had || err != nil || open || d.Expired() || exists(path) || log.Len() > 0 {
			t.Errorf("%s: had %t, %v, open %t, file there %t, log %q", name, had, err, open, exists(path), log.String())
		}
	}
}

// TestOpenWithoutRunDir: a deadline that can't be written down is none.
func TestOpenWithoutRunDir(t *testing.T) {
	s := &config.Settled{Config: validConfig(t.TempDir())}
	s.Confirm = time.Minute
	if d, err := OpenDeadline(DeadlineConfig{Settings: s}); err == nil || !strings.HasPrefix(err.Error(), "--confirm: ") {
		t.Errorf("%v, %v", d, err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestWatchdog: a loop whose turn lasts is reported once, until it goes on; a daemon that
// was stopped as a whole isn't stuck.
func TestWatchdog(t *testing.T) {
	th, err := newThread(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(th.loop.Close)
	var said []string
	p := &Proxy{threads: []*thread{th}, cfg: Config{Log: slog.New(slog.DiscardHandler), Stuck: func(err error) {
		if err != nil {
			said = append(said, err.Error())
		}
	}}}
	in, out := make(chan struct{}), make(chan struct{})
	th.Do(func() { close(in); <-out })
	<-in
	p.watchdog(time.Now().Add(time.Hour)) // one round after a long stop
	if len(said) != 0 {
		t.Errorf("a daemon that was stopped: %v", said)
	}
	for range longTurn + 2 {
		p.watchdog(time.Now().Add(time.Hour))
	}
	if p.Stalls() != 1 || len(said) != 3 || !strings.Contains(said[0], "an event loop has been stuck for 1h0m0s") {
		t.Errorf("%d times: %q", p.Stalls(), said)
	}
	close(out)
	done := make(chan struct{})
	th.Do(func() { close(done) })
	<-done
	said = nil
	for range longTurn + 2 {
		th.Do(func() {}) // each in a turn of its own
		p.watchdog(time.Now())
	}
	if len(said) != 0 || p.Stalls() != 1 {
		t.Errorf("it goes on, and yet: %d, %q", p.Stalls(), said)
	}
}

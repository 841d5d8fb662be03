// SPDX-License-Identifier: Apache-2.0

package carrier

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// bytes: on every way, what one program does to a connection is what
// the other one sees, as over TCP. Each operation's accepting end speaks first.
func (f *fixture) bytes(t *testing.T) {
	stalled := f.stall(t)
	for _, w := range f.ways {
		t.Run(w.name, func(t *testing.T) {
			f.whole(t, w)
			f.ends(t, w)
			f.urgent(t, w)
			f.slowReader(t, w)
		})
	}
	stalled(t)
}

// whole: bytes both ways at once, compared by hash; and some that are sent as urgent.
func (f *fixture) whole(t *testing.T, w way) {
	w.start(t, 10, "oob", 20).all(t, "ok")
	n := size(64<<20, 1<<30)
	r := w.start(t, 1, "bytes", n).all(t, "ok")
	figure(t, fmt.Sprintf("%d MiB both ways at once", n>>20), "-", r.slowest.Round(time.Millisecond), true)
}

// ends: half-closes and resets, from either end.
func (f *fixture) ends(t *testing.T, w way) {
	n := size(50, 1000)
	for _, op := range []string{"half", "half-back", "server-reset", "client-reset"} {
		before := f.said(op + " ok")
		w.start(t, n, op, 20_000).all(t, "ok")
		testhost.Eventually(t, 10*time.Second, op+": the other ends", func() error {
			if seen := f.said(op+" ok") - before; seen != n {
				return fmt.Errorf("%d of %d saw it: %s", seen, n, f.complaints(op))
			}
			return nil
		})
	}
}

// said is how often the server has printed a line.
func (f *fixture) said(line string) int { return strings.Count("\n"+f.server.Output(), "\n"+line) }

// complaints are lines of the server about streams of an operation that ended too soon.
func (f *fixture) complaints(op string) string {
	var out []string
	for line := range strings.Lines(f.server.Output()) {
		if strings.HasPrefix(line, op+" ") && !strings.HasPrefix(line, op+" ok") {
			out = append(out, line)
		}
	}
	return strings.Join(out[max(0, len(out)-3):], "")
}

// urgent: small questions beside bulk, in either direction.
func (f *fixture) urgent(t *testing.T, w way) {
	n := size(20, 5000)
	alone := w.start(t, 1, "ping", n).all(t, "ok").p99
	for _, op := range []string{"flood", "pour"} {
		bulk := w.start(t, 4, op).up(t)
		beside := w.start(t, 1, "ping", n).all(t, "ok").p99
		bulk.stop(t)
		figure(t, "p99 of a ping beside 4 of "+op+", to the one alone", "<= 5", ratio(beside, alone), beside <= 5*alone || !w.lane)
	}
}

func ratio(a, b time.Duration) string {
	return fmt.Sprintf("%.1f (%s, %s)", float64(a)/float64(b), a, b)
}

// slowReader: fast streams keep their rate while one of them hardly reads.
func (f *fixture) slowReader(t *testing.T, w way) {
	const fast = 50
	n := size(1<<20, 64<<20)
	alone := w.start(t, fast, "get", n).all(t, "ok").slowest
	slow := w.start(t, 1, "sip").up(t)
	beside := w.start(t, fast, "get", n).all(t, "ok").slowest
	slow.stop(t)
	kept := 100 * alone / beside
	figure(t, "rate of 50 streams beside a slow reader", ">= 80 %", fmt.Sprintf("%d %% (%s, %s)", kept, beside, alone), kept >= 80 || !w.lane)
}

// stall: on every way at once, nothing is read for a while, at either end; then
// everything arrives.
func (f *fixture) stall(t *testing.T) (wait func(*testing.T)) {
	t.Helper()
	const count, whole = 2, 32 << 20 // more than sockets and lanes hold
	pause := size(3000, 60_000)
	var running []streams
	for _, w := range f.ways {
		for _, op := range []string{"get", "put"} {
			running = append(running, w.start(t, count, op, whole, pause))
		}
	}
	return func(t *testing.T) {
		for _, s := range running {
			s.all(t, "ok")
		}
	}
}

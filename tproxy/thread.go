// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"fmt"
	"log/slog"
	"time"

	"tacit/tproxy/lane"
	"tacit/tproxy/loop"
)

// thread is an event loop with the buffers that streams between two programs share.
type thread struct {
	*lane.Loop
	loop    *loop.Loop
	scratch [][]byte                    // one
	part    [][]byte                    // one, of scratch
	after   func(time.Duration, func()) // calls a function on the loop, later

	turn   int64 // the one that the watchdog saw last, by its beginning
	rounds int   // of the watchdog that it has lasted
}

const scratchSize = 64 << 10

func newThread(log *slog.Logger) (*thread, error) {
	l, err := loop.New(log)
	if err != nil {
		return nil, err
	}
	after := func(d time.Duration, f func()) { time.AfterFunc(d, func() { l.Do(f) }) }
	return &thread{Loop: lane.NewLoop(l), loop: l, scratch: [][]byte{make([]byte, scratchSize)}, part: make([][]byte, 1), after: after}, nil
}

// longTurn is how many rounds of the watchdog a turn of a loop may last: a second. Rounds
// are counted instead of time, since the whole daemon may have been stopped.
const longTurn = 4

// watchdog returns an error when a turn lasts, and whether it is news: everything that
// the loop carries stands still.
func (t *thread) watchdog(now time.Time) (news bool, err error) {
	d := t.loop.Busy(now)
	if d == 0 || now.Add(-d).UnixNano() != t.turn {
		t.turn, t.rounds = now.Add(-d).UnixNano(), 0
		return false, nil
	}
	if t.rounds++; t.rounds < longTurn {
		return false, nil
	}
	return t.rounds == longTurn, fmt.Errorf("an event loop has been stuck for %s: what it carries stands still", d.Round(time.Second/10))
}

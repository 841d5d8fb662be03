// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
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

// longTurn is how long a turn of a loop may last without being reported.
const longTurn = time.Second

// watchdog says when a turn lasts: everything that the loop carries stands still.
func (t *thread) watchdog(now time.Time, log *slog.Logger) {
	if d := t.loop.Busy(now); d > longTurn {
		log.Error("an event loop is stuck: what it carries stands still", "for", d)
	}
}

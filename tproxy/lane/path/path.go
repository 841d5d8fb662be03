// SPDX-License-Identifier: Apache-2.0

// Package path judges the way between two nodes: whether a lost packet would stop the
// streams of a lane for long, or often. It must not look at a connection.
package path

import (
	"sync/atomic"
	"time"

	"tacit/tproxy/socket"
)

// What a lost packet costs the streams that share a lane is one more trip, at least.
const (
	farTrip = time.Millisecond // longer ones are too dear
	judged  = 1000             // segments before losses are judged
	again   = 200              // one of so many that is sent again is too many
	late    = 50               // one of so many that comes out of turn, since each loss makes many late
)

// Way is the way to one peer, as all lanes with it find it.
type Way struct{ poor atomic.Bool }

// Poor says whether streams should be spread over several lanes: what is sent on a way
// like this gets through better apart, and where the way is good, together.
func (w *Way) Poor() bool { return w.poor.Load() }

// Learn judges by what one lane has seen, once that is enough.
func (w *Way) Learn(p socket.Path) {
	bad := p.Trip > farTrip || p.Sent > judged && p.Again > p.Sent/again || p.Received > judged && p.OutOfTurn > p.Received/late
	if bad || p.Sent > judged || p.Received > judged {
		w.poor.Store(bad)
	}
}

// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"testing"
	"testing/synctest"
	"time"

	"tacit/policy"
	"tacit/tproxy/lane/guest"
	"tacit/tproxy/lane/trust"
	"tacit/tproxy/loop"
)

// posts is a loop on which all happens at once.
type posts struct{}

func (posts) Do(f func()) bool              { f(); return true }
func (posts) Queue(loop.Runner)             {}
func (posts) AtEnd(loop.Flusher)            {}
func (posts) Watch(int, loop.Handler) error { return nil }
func (posts) Forget(int, bool)              {}

// TestGiveUp: an opener that gives up when the lane has ended, too, is told of the end,
// and the loop doesn't wait for it.
func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a loop that waits is a dead-lock here
		l := &lane{cfg: &Config{}, guest: &guest.Guest{}, loop: &Loop{Events: posts{}}, ended: make(chan struct{}), trusted: trusted{services: trust.NewServices(time.Now())}}
		l.ending = true
		close(l.ended)
		answer := make(chan error, 1)
		st := &Stream{lane: l, answer: answer}
		l.begin(st, nil, nil)
		if err := l.giveUp(st, answer); policy.ReasonOf(err, "") != policy.ReasonLane {
			t.Errorf("told %v", err)
		}
	})
}

// TestGiveUpLate: an opener that gives up just after its stream was opened has it, also
// where the lane has ended since.
func TestGiveUpLate(t *testing.T) {
	for range 50 { // a choice at random would be wrong half of the time
		l := &lane{cfg: &Config{}, guest: &guest.Guest{}, loop: &Loop{Events: posts{}}, ended: make(chan struct{}), trusted: trusted{services: trust.NewServices(time.Now())}}
		close(l.ended)
		answer := make(chan error, 1)
		answer <- nil
		if err := l.giveUp(&Stream{lane: l, opened: true}, answer); err != nil {
			t.Fatalf("the user has the stream, and its opener was told %v", err)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tacit/tproxy/lane/credit"
)

// TestLimits: lanes, streams that live, streams that nobody has taken yet, OPENs and
// strikes are bounded one by one, and what has ended makes room.
func TestLimits(t *testing.T) {
	now := time.Now()
	g := New(now, credit.NewBudget(0))
	if !g.Join(1) || g.Join(1) {
		t.Error("not one lane")
	}
	g.Leave()
	if !g.Join(1) {
		t.Error("a lane that was left keeps its place")
	}
	for i := range 3 {
		if g.Open(2, now) != (i < 2) {
			t.Error("not two streams")
		}
	}
	g.Closed()
	if g.Open(2, now) {
		t.Error("a stream that was reset doesn't count although its handling goes on")
	}
	g.Decided()
	if !g.Open(2, now) {
		t.Error("what has ended makes no room")
	}
	n := 0
	for g.Open(1<<30, now) {
		n++
	}
	if n < opensAtOnce-10 || n > opensAtOnce {
		t.Errorf("%d streams opened at once, want about %d", n, opensAtOnce)
	}
	if !g.Open(1<<30, now.Add(time.Second)) {
		t.Error("it may never open one again")
	}
	n = 0
	for g.Strike() {
		n++
	}
	if n < strikesLimit {
		t.Errorf("%d strikes, want at least %d", n, strikesLimit)
	}
}

// TestGo: everything is called, little of it at once.
func TestGo(t *testing.T) {
	g := New(time.Now(), credit.NewBudget(0))
	const n = 1000
	var work sync.WaitGroup
	var now, most, all atomic.Int32
	hold := make(chan struct{})
	for range n {
		work.Add(1)
		g.Go(func() {
			defer work.Done()
			if k := now.Add(1); k > most.Load() {
				most.Store(k)
			}
			<-hold
			all.Add(1)
			now.Add(-1)
		})
	}
	close(hold)
	work.Wait()
	if all.Load() != n || most.Load() > atOnce {
		t.Errorf("%d of %d were called, %d at once", all.Load(), n, most.Load())
	}
	work.Add(1)
	g.Go(work.Done) // after the goroutines have ended, too
	work.Wait()
}

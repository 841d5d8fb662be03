// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"testing"
	"time"
)

// TestLimits: lanes, streams that live, streams that nobody has taken yet, OPENs and
// strikes are bounded one by one, and what has ended makes room.
func TestLimits(t *testing.T) {
	now := time.Now()
	g := New(now)
	if !g.Join(1) || g.Join(1) {
		t.Error("not one lane")
	}
	g.Leave()
	if !g.Join(1) {
		t.Error("a lane that was left keeps its place")
	}
	if !g.Open(2, now) || !g.Open(2, now) || g.Open(2, now) {
		t.Error("not two streams")
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

// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"maps"
	"math/rand/v2"
	"time"

	"tacit/identity"
)

// Any member can list the addresses of others in its record, and each node then
// dials them: what that can do to them is bounded here.
const (
	firstPause   = time.Second     // after the first failed attempt at an address; it doubles
	longestPause = 5 * time.Minute // between two attempts
	triesAtOnce  = 40              // at all addresses of one member; its record lists up to 33
	triesEvery   = 10 * time.Second
)

// tries are the attempts to prove claims. One goroutine uses it.
type tries struct {
	byClaim map[claim]*try
	byNode  map[identity.Name]*allowance
	up      map[identity.Name]bool // who answered the last time
}

type try struct {
	pause time.Duration
	next  time.Time
}

// allowance is how often the addresses of one member are dialled: triesAtOnce, and
// once more every triesEvery.
type allowance struct{ full time.Time } // when it is unused again

func (a *allowance) take(now time.Time) bool {
	if a.full.Before(now) {
		a.full = now
	}
	if a.full.Sub(now) > (triesAtOnce-1)*triesEvery {
		return false
	}
	a.full = a.full.Add(triesEvery)
	return true
}

// begin forgets what no record claims any more, and lets the addresses of nodes that
// have come back be tried at once.
func (t *tries) begin(claims []claim, up map[identity.Name]bool) {
	if t.byClaim == nil {
		t.byClaim, t.byNode = map[claim]*try{}, map[identity.Name]*allowance{}
	}
	now := map[claim]bool{}
	for _, c := range claims {
		now[c] = true
	}
	maps.DeleteFunc(t.byClaim, func(c claim, _ *try) bool { return !now[c] || up[c.node] && !t.up[c.node] })
	t.up = up
}

// may reports whether a claim is tried now.
func (t *tries) may(c claim, now time.Time) bool {
	one := t.byClaim[c]
	if one == nil {
		one = &try{pause: firstPause / 2}
		t.byClaim[c] = one
	}
	if now.Before(one.next) {
		return false
	}
	if t.byNode[c.node] == nil {
		t.byNode[c.node] = &allowance{}
	}
	if !t.byNode[c.node].take(now) {
		one.next = now.Add(triesEvery)
		return false
	}
	return true
}

// failed puts off the next attempt.
func (t *tries) failed(c claim, now time.Time) {
	one := t.byClaim[c]
	one.pause = min(2*one.pause, longestPause)
	one.next = now.Add(one.pause*3/4 + rand.N(one.pause/4)) // nodes that learn of a record together don't dial together
}

// pause is how long no claim of a node that answers is due.
func (t *tries) pause(now time.Time) time.Duration {
	wait := longestPause
	for c, one := range t.byClaim {
		if t.up[c.node] {
			wait = min(wait, one.next.Sub(now))
		}
	}
	return max(wait, firstPause)
}

func (t *tries) succeeded(c claim) { delete(t.byClaim, c) }

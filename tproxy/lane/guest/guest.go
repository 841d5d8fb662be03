// SPDX-License-Identifier: Apache-2.0

// Package guest bounds what one peer may do here, on all its lanes together
// (docs/lane-protocol.md), and keeps what they find out about the way to it. It must not know a lane, nor end one. A guest is never
// forgotten: it would begin anew with its next lane, and members are few.
package guest

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"tacit/tproxy/lane/credit"
	"tacit/tproxy/lane/path"
	"tacit/tproxy/lane/trust"
)

const (
	opensAtOnce  = 20_000 // streams opened; more are refused
	opensPause   = 50 * time.Microsecond
	strikesLimit = 12_000 // of what an honest node does seldom, at once: then its lane is cut
	strikesPause = time.Millisecond
	atOnce       = 16 // goroutines
)

// Guest is what one peer does here.
type Guest struct {
	Held    credit.Held
	Windows *credit.Share // of all windows
	Way     path.Way
	Carried atomic.Int64 // streams that live on all lanes with it, whoever opened them

	mu      sync.Mutex // guards what follows
	lanes   int        // that it has dialled
	live    int        // streams that it has opened
	opening int        // those that nobody has taken or refused yet, ended or not
	opens   trust.Tally
	strikes trust.Tally
	busy    int      // goroutines of Go
	waiting []func() // for one
}

// New is of a peer that has done nothing yet.
func New(now time.Time, windows *credit.Budget) *Guest {
	return &Guest{Windows: windows.Share(), opens: trust.NewTally(opensAtOnce, opensPause, now), strikes: trust.NewTally(strikesLimit, strikesPause, now)}
}

// Join takes one more lane, up to a limit.
func (g *Guest) Join(limit int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lanes >= limit {
		return false
	}
	g.lanes++
	return true
}

// Leave gives a lane back.
func (g *Guest) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lanes--
}

// Open takes one more stream, up to a limit of those that live, and of those that nobody
// has taken or refused yet: their handling goes on after a reset.
func (g *Guest) Open(limit int, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live >= limit || g.opening >= limit || !g.opens.Add(now) {
		return false
	}
	g.live++
	g.opening++
	return true
}

// Decided notes that a stream was admitted or refused.
func (g *Guest) Decided() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opening--
}

// Streams is how many streams live, and how many nobody has taken or refused yet.
func (g *Guest) Streams() (live, opening int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.live, g.opening
}

// Closed notes that a stream is over.
func (g *Guest) Closed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.live--
}

// Strike counts what an honest node does seldom; false: it was too often.
func (g *Guest) Strike() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.strikes.Add(time.Now())
}

// Go calls f in a goroutine, after what waits already where the peer has many: thousands
// that are ready to run would keep the event loops from running.
func (g *Guest) Go(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy == atOnce {
		g.waiting = append(g.waiting, f)
		return
	}
	g.busy++
	go g.work(f)
}

func (g *Guest) work(f func()) {
	for f != nil {
		f()
		f = g.next()
		runtime.Gosched()
	}
}

// next is what waits longest; nil: nothing, and the goroutine ends.
func (g *Guest) next() (f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.busy--
		g.waiting = nil
		return nil
	}
	f = g.waiting[0]
	g.waiting[0] = nil
	g.waiting = g.waiting[1:]
	return f
}

// SPDX-License-Identifier: Apache-2.0

// Package credit bounds what a stream may send before its receiver has taken it. It
// must not send anything.
package credit

import "sync/atomic"

// Each end of a stream may send as many bytes as the other has granted: First
// from the beginning, and what the other's program has taken again, by CREDIT. So a
// program that doesn't read stops its own stream only. The window of a stream whose
// program keeps up is doubled, up to most, from a budget that all streams of the
// node share: it bounds what programs that stop reading can make the node hold.
const (
	First = 64 << 10
	most  = 4 << 20
)

// Budget is how many bytes the windows of all streams may have beyond First.
type Budget struct{ left atomic.Int64 }

// NewBudget makes a budget of n bytes.
func NewBudget(n int64) *Budget {
	b := &Budget{}
	b.left.Store(n)
	return b
}

// Left is how much may be lent yet.
func (b *Budget) Left() int64 { return b.left.Load() }

func (b *Budget) take(n int) bool {
	if b.left.Add(int64(-n)) >= 0 {
		return true
	}
	b.left.Add(int64(n))
	return false
}

func (b *Budget) put(n int) { b.left.Add(int64(n)) }

// Share is what one peer's streams have of a budget: half of what the others leave at
// most, so that a peer whose streams stand still leaves something for the next one.
type Share struct {
	budget *Budget
	lent   atomic.Int64
}

// Share is that of one more peer.
func (b *Budget) Share() *Share { return &Share{budget: b} }

func (s *Share) take(n int) bool {
	lent := s.lent.Add(int64(n))
	if left := s.budget.Left(); lent > (left+lent-int64(n))/2 || !s.budget.take(n) {
		s.lent.Add(int64(-n))
		return false
	}
	return true
}

func (s *Share) put(n int) {
	s.lent.Add(int64(-n))
	s.budget.put(n)
}

// Window is what the peer may send on one stream.
type Window struct {
	allowed int // bytes that the peer may send yet
	size    int // allowed when nothing is under way
	taken   int // bytes that the program has taken since the last grant
	held    int // bytes that have arrived and that the program has not taken
}

// Arrived says whether the peer was allowed to send n bytes.
func (w *Window) Arrived(n int) bool {
	w.allowed -= n
	return w.allowed >= 0
}

// Took returns what is to be granted now that the program has taken n bytes; 0: not
// yet, so that few frames carry credit.
func (w *Window) Took(n int, s *Share) int {
	w.taken += n
	if w.taken < w.size/2 {
		return 0
	}
	grant := w.taken
	if w.allowed <= w.size/2 && w.size < most && s.take(w.size) { // the peer uses what it is granted
		grant += w.size
		w.size *= 2
	}
	w.taken = 0
	w.allowed += grant
	return grant
}

// Close gives back what the budget lent, and what is held.
func (w *Window) Close(s *Share, h *Held) {
	w.Release(w.held, h)
	s.put(w.size - First)
	w.size = First
}

// NewWindow is that of a stream that begins.
func NewWindow() Window { return Window{allowed: First, size: First} }

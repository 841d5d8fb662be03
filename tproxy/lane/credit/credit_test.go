// SPDX-License-Identifier: Apache-2.0

package credit

import (
	"math/rand/v2"
	"testing"
)

// TestAccounts: whatever comes, is taken and ends, in whatever order: no peer is granted
// more than most, the budget lends no more than it has, and gets all back.
func TestAccounts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const size = 8 << 20
	budget, held := NewBudget(size), &Held{}
	shares := []*Share{budget.Share(), budget.Share(), budget.Share()}
	type stream struct {
		Window
		may, waits int
		share      *Share
	}
	var all []*stream
	for range 200_000 {
		switch k := r.IntN(100); {
		case k < 5 && len(all) < 300:
			all = append(all, &stream{NewWindow(), First, 0, shares[r.IntN(len(shares))]})
		case k < 6 && len(all) > 0:
			i := r.IntN(len(all))
			all[i].Close(all[i].share, held)
			all = append(all[:i], all[i+1:]...)
		case k < 50 && len(all) > 0:
			s := all[r.IntN(len(all))]
			n := min(s.may, 1+r.IntN(1<<14))
			if !s.Arrived(n) {
				t.Fatal("what was granted is refused")
			}
			s.Keep(n, held)
			s.may, s.waits = s.may-n, s.waits+n
		case len(all) > 0:
			s := all[r.IntN(len(all))]
			n := min(s.waits, 1+r.IntN(1<<15))
			s.waits -= n
			s.Release(n, held)
			s.may += s.Took(n, s.share)
			if s.may+s.waits > most {
				t.Fatalf("%d bytes may be under way", s.may+s.waits)
			}
		}
		if left := budget.Left(); left < 0 || left > size {
			t.Fatalf("the budget has %d left", left)
		}
		want := int64(0)
		for _, s := range all[:min(len(all), 1)] {
			want += int64(min(s.waits, First))
		}
		if held.Bytes() < want {
			t.Fatalf("%d bytes are held, not %d", held.Bytes(), want)
		}
	}
	for _, s := range all {
		s.Close(s.share, held)
	}
	if budget.Left() != size || held.Bytes() != 0 {
		t.Errorf("%d of the budget are left, %d bytes held", budget.Left(), held.Bytes())
	}
	w := NewWindow()
	if w.Arrived(First + 1) {
		t.Error("more than was granted is taken")
	}
}

// TestShare: one peer gets no more than half of what the others leave, and what it gives
// back can be lent again.
func TestShare(t *testing.T) {
	const size = 64 << 20
	budget := NewBudget(size)
	fill := func(s *Share) (n int64) {
		for s.take(First) {
			n += First
		}
		return n
	}
	first, second := budget.Share(), budget.Share()
	if n := fill(first); n != size/2 {
		t.Errorf("the first peer has %d bytes of %d", n, size)
	}
	if n := fill(second); n != size/4 {
		t.Errorf("the second one has %d", n)
	}
	for range size / 4 / First {
		second.put(First)
	}
	if n := fill(second); n != size/4 {
		t.Errorf("the second one has %d after it gave all back", n)
	}
	if budget.Left() != size/4 {
		t.Errorf("%d are left", budget.Left())
	}
}

// TestHeld: streams of a peer that hold much are ended before those that keep up.
func TestHeld(t *testing.T) {
	held := &Held{}
	fill := func(n int) {
		for i := range n / First {
			if w := NewWindow(); !w.Keep(First, held) {
				t.Fatalf("%d bytes are too many", i*First)
			}
		}
	}
	fill(heldLimit)
	small, large := NewWindow(), NewWindow()
	if !small.Keep(heldShare, held) {
		t.Error("a stream whose program keeps up is ended")
	}
	if large.Keep(heldShare+1, held) {
		t.Error("a stream that holds much isn't")
	}
	held.n.Store(heldMost)
	if small.Keep(1, held) {
		t.Error("there is no end")
	}
}

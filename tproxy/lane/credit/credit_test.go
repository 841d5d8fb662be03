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
	type stream struct {
		Window
		may, waits int
	}
	var all []*stream
	for range 200_000 {
		switch k := r.IntN(100); {
		case k < 5 && len(all) < 300:
			all = append(all, &stream{NewWindow(), First, 0})
		case k < 6 && len(all) > 0:
			i := r.IntN(len(all))
			all[i].Close(budget, held)
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
			s.may += s.Took(n, budget)
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
		s.Close(budget, held)
	}
	if budget.Left() != size || held.Bytes() != 0 {
		t.Errorf("%d of the budget are left, %d bytes held", budget.Left(), held.Bytes())
	}
	w := NewWindow()
	if w.Arrived(First + 1) {
		t.Error("more than was granted is taken")
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

// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestGate: without a question while there is plenty of room, then by sender: as
// much as may be under way, and as much as may begin in a window.
func TestGate(t *testing.T) {
	asked := 0
	of := func(sender uint64) func() uint64 { return func() uint64 { asked++; return sender } }
	g := newGate(40, 0)
	enter := func(sender uint64, times int) (entered int) {
		g.since = time.Now().Add(time.Hour) // one window
		for range times {
			if _, ok := g.enter(of(sender)); ok {
				entered++
			}
		}
		return entered
	}
	if n := enter(1, 15); n != 15 || asked != 5 {
		t.Errorf("a quarter without a question: %d entered, %d questions", n, asked)
	}
	if n := enter(1, 10); n != 5 {
		t.Errorf("%d more of the same sender, want 5", n)
	}
	if n := enter(2, 20); n != 10 {
		t.Errorf("%d of another one, want 10", n)
	}
	if n := enter(3, 20); n != 10 || g.all != 40 {
		t.Errorf("%d of a third one and %d in all, want 10 and 40", n, g.all)
	}
	if n := enter(4, 1); n != 0 {
		t.Error("more than the limit")
	}
	g.leave(2)
	if n := enter(4, 2); n != 1 {
		t.Errorf("%d entered for one that left", n)
	}
	g = newGate(1000, 7)
	for range unlooked {
		sender, _ := g.enter(of(1))
		g.leave(sender)
	}
	n := 0
	g.since = time.Now().Add(time.Hour)
	for range 20 {
		if sender, ok := g.enter(of(1)); ok {
			g.leave(sender)
			n++
		}
	}
	if n != 7 {
		t.Errorf("%d in one window, want 7", n)
	}
	g.since = time.Time{}
	if sender, ok := g.enter(of(1)); !ok || sender != nobody {
		t.Error("the next window is like the first")
	}
}

// TestSenders: a client's address is taken for its sender only after several
// questions, and for a moment.
func TestSenders(t *testing.T) {
	asked, sender := 0, uint64(7)
	s := newSenders(func(network string, client, server netip.AddrPort) uint64 { asked++; return sender })
	from, at := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53}
	s.since = time.Now().Add(time.Hour)
	for range 2 * lookups {
		if got := s.of("udp", from, at); got != 7 {
			t.Errorf("sender %d", got)
		}
	}
	if asked != lookups {
		t.Errorf("%d questions, want %d", asked, lookups)
	}
	s.since, sender = time.Time{}, 8
	if got := s.of("udp", from, at); got != 8 {
		t.Errorf("sender %d a moment later", got)
	}
	if got := newSenders(nil).of("udp", from, at); got != 0 {
		t.Errorf("sender %d, though nobody knows", got)
	}
}

// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Sender says who sent a query from client to one of this server's sockets: a
// number that is the same for all sockets of one group of programs (the id of
// their cgroup); 0 if it isn't known. It is asked only while much is going on, and for
// the real names of outside services.
type Sender func(network string, client, server netip.AddrPort) uint64

const (
	sharers  = 4                      // one sender gets at most this part of what may be under way
	window   = 100 * time.Millisecond // in which queries are counted
	maxRate  = 200                    // queries of one sender in a window that are forwarded
	lookups  = 32                     // that agree before a client's address is taken for its sender, in a window
	nobody   = ^uint64(0)             // the sender of queries that nobody asked about
	unlooked = 200                    // queries in a window about which nobody is asked
)

// gate limits what is under way at once, in all and for each sender, and how much
// of each sender begins in a window.
type gate struct {
	limit, rate int // rate 0: without limit

	mu    sync.Mutex
	all   int
	by    map[uint64]int
	since time.Time // the window's beginning; what follows is of this window
	count int
	used  map[uint64]int
}

func newGate(limit, rate int) *gate {
	return &gate{limit: limit, rate: rate, by: map[uint64]int{}, used: map[uint64]int{}}
}

// enter reports whether there is room; if so, leave must follow with the sender.
// It asks for the sender where that matters.
func (g *gate) enter(ask func() uint64) (sender uint64, ok bool) {
	if g.quiet() {
		return nobody, true
	}
	sender = ask()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= g.limit || g.by[sender] >= g.limit/sharers || g.rate > 0 && g.used[sender] >= g.rate {
		return sender, false
	}
	g.add(sender)
	return sender, true
}

// quiet enters without a question, where there is plenty of room.
func (g *gate) quiet() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.since) >= window {
		g.since, g.count = now, 0
		clear(g.used)
	}
	g.count++
	if g.all >= g.limit/sharers || g.count > unlooked {
		return false
	}
	g.add(nobody)
	return true
}

func (g *gate) add(sender uint64) {
	g.all++
	g.by[sender]++
	g.used[sender]++
}

func (g *gate) leave(sender uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.by[sender]--; g.by[sender] == 0 {
		delete(g.by, sender)
	}
}

// senders remembers for a moment who uses a client's address: a program that asks
// again and again from one socket isn't looked up each time. An address that is
// used just once isn't remembered: the next socket there may be somebody else's.
type senders struct {
	ask Sender

	mu    sync.Mutex
	since time.Time
	seen  map[netip.AddrPort]*seen
}

type seen struct {
	sender uint64
	times  int
}

func newSenders(ask Sender) *senders { return &senders{ask: ask, seen: map[netip.AddrPort]*seen{}} }

// of asks who is behind a client's address.
func (s *senders) of(network string, client, server net.Addr) uint64 {
	from, at := addrPort(client), addrPort(server)
	if s.ask == nil || !from.IsValid() || !at.IsValid() {
		return 0
	}
	if sender, ok := s.known(from); ok {
		return sender
	}
	sender := s.now(network, client, server)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.seen[from]; old != nil && old.sender == sender {
		old.times++
	} else {
		s.seen[from] = &seen{sender, 1}
	}
	return sender
}

// now is of without memory.
func (s *senders) now(network string, client, server net.Addr) uint64 {
	from, at := addrPort(client), addrPort(server)
	if s.ask == nil || !from.IsValid() || !at.IsValid() {
		return 0
	}
	return s.ask(network, from, at)
}

func (s *senders) known(from netip.AddrPort) (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.since) >= window {
		s.since = now
		clear(s.seen)
	}
	if old := s.seen[from]; old != nil && old.times >= lookups {
		return old.sender, true
	}
	return 0, false
}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort()
	case *net.TCPAddr:
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

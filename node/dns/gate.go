// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net"
	"net/netip"
	"sync"
)

// Sender says who sent a query from client to one of this server's sockets: a
// number that is the same for all sockets of one group of programs (the id of
// their cgroup); 0 if it isn't known. It is asked for each query that is forwarded.
type Sender func(network string, client, server netip.AddrPort) uint64

// sharers is how many senders must be busy before a gate is full: one alone gets
// no more than this part of it.
const sharers = 4

// gate limits what is under way at once, in all and for each sender.
type gate struct {
	mu    sync.Mutex
	limit int
	all   int
	by    map[uint64]int
}

func newGate(limit int) *gate { return &gate{limit: limit, by: map[uint64]int{}} }

// enter reports whether there is room; if so, leave must follow.
func (g *gate) enter(sender uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= g.limit || g.by[sender] >= g.limit/sharers {
		return false
	}
	g.all++
	g.by[sender]++
	return true
}

func (g *gate) leave(sender uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.by[sender]--; g.by[sender] == 0 {
		delete(g.by, sender)
	}
}

// senderOf asks who is behind a client's address.
func (s *Server) senderOf(network string, client, server net.Addr) uint64 {
	from, err := netip.ParseAddrPort(client.String())
	at, err2 := netip.ParseAddrPort(server.String())
	if s.sender == nil || err != nil || err2 != nil {
		return 0
	}
	return s.sender(network, from, at)
}

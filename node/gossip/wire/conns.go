// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"tacit/identity"
)

const (
	maxStreams          = 256 // accepted and open
	maxStreamsPerPeer   = 16  // accepted from one address
	maxStreamsPerMember = 8   // accepted from one member, whatever its addresses
	maxStrangers        = 64  // accepted from addresses that no member has
)

// errClosed: the wire is closed.
var errClosed = errors.New("gossip is closed")

// conns lists the open streams.
type conns struct {
	known func(netip.Addr) bool

	mu        sync.Mutex
	open      map[*conn]struct{}
	perPeer   map[netip.Addr]int
	perMember map[identity.Name]int
	accepted  int
	strangers int
	closed    bool
}

// conn is one open stream.
type conn struct {
	net.Conn
	list     *conns
	peer     netip.Addr // of an accepted stream, else invalid
	stranger bool
	member   identity.Name // once it is proven
}

func newConns(known func(netip.Addr) bool) *conns {
	return &conns{known: known, open: map[*conn]struct{}{}, perPeer: map[netip.Addr]int{}, perMember: map[identity.Name]int{}}
}

// outbound adds a stream that this node opened.
func (l *conns) outbound(c net.Conn) (*conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.Join(errClosed, c.Close())
	}
	out := &conn{Conn: c, list: l}
	l.open[out] = struct{}{}
	return out, nil
}

// inbound adds an accepted stream; false means that there are too many.
func (l *conns) inbound(c net.Conn) (*conn, bool) {
	from, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return nil, false
	}
	in := &conn{Conn: c, list: l, peer: from.AddrPort().Addr().Unmap()}
	in.stranger = !l.known(in.peer)
	l.mu.Lock()
	defer l.mu.Unlock()
	full := l.accepted >= maxStreams || l.perPeer[in.peer] >= maxStreamsPerPeer
	if l.closed || full || (in.stranger && l.strangers >= maxStrangers) {
		return nil, false
	}
	l.open[in] = struct{}{}
	l.count(in, 1)
	return in, true
}

// prove notes whose stream c is; false means that the member has too many.
func (l *conns) prove(c *conn, member identity.Name) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.open[c]; !ok {
		return false
	}
	c.member = member
	if !c.peer.IsValid() {
		return true
	}
	l.perMember[member]++
	return l.perMember[member] <= maxStreamsPerMember
}

// count adds n accepted streams like c, or subtracts them; l.mu is held.
func (l *conns) count(c *conn, n int) {
	l.accepted += n
	if l.perPeer[c.peer] += n; l.perPeer[c.peer] == 0 {
		delete(l.perPeer, c.peer)
	}
	if c.stranger {
		l.strangers += n
	}
}

func (l *conns) closeAll() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.closeWhere(func(*conn) bool { return true })
}

// closeOf closes the streams of a member.
func (l *conns) closeOf(member identity.Name) {
	l.closeWhere(func(c *conn) bool { return c.member == member })
}

func (l *conns) closeWhere(which func(*conn) bool) {
	l.mu.Lock()
	var list []*conn
	for c := range l.open {
		if which(c) {
			list = append(list, c)
		}
	}
	l.mu.Unlock()
	for _, c := range list {
		_ = c.Close()
	}
}

// Close closes the stream and removes it from the list.
func (c *conn) Close() error {
	c.list.remove(c)
	return c.Conn.Close()
}

func (l *conns) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.open[c]; !ok {
		return
	}
	delete(l.open, c)
	if !c.peer.IsValid() {
		return
	}
	l.count(c, -1)
	if c.member == "" {
		return
	}
	if l.perMember[c.member]--; l.perMember[c.member] <= 0 {
		delete(l.perMember, c.member)
	}
}

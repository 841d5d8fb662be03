// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"errors"
	"net"
	"net/netip"
	"sync"
)

const (
	maxStreams        = 256      // accepted and open
	maxStreamsPerPeer = 16       // accepted from one address
	maxStrangers      = 64       // accepted from strangers: addresses that no member has
	strangerBytes     = 8 << 20  // of one stranger's stream; a new node has few records
	strangersBytes    = 16 << 20 // of all strangers' streams together
)

var errStranger = errors.New("an address that belongs to no member has sent too much")

// conns lists the open streams. memberlist buffers up to 20 MB of a stream before
// it can check the key, so the bytes from strangers are limited here.
type conns struct {
	knows func(netip.Addr) bool

	mu        sync.Mutex
	open      map[*conn]struct{}
	perPeer   map[netip.Addr]int
	accepted  int
	strangers int
	bytes     int // read from strangers on streams still open
	closed    bool
}

// conn is one open stream.
type conn struct {
	net.Conn
	list     *conns
	peer     netip.Addr // of an accepted stream, else invalid
	stranger bool
	bytes    int // read from a stranger
}

func newConns(knows func(netip.Addr) bool) *conns {
	return &conns{knows: knows, open: make(map[*conn]struct{}), perPeer: make(map[netip.Addr]int)}
}

// outbound adds a stream that this node opened.
func (l *conns) outbound(c net.Conn) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.Join(ErrClosed, c.Close())
	}
	out := &conn{Conn: c, list: l}
	l.open[out] = struct{}{}
	return out, nil
}

// inbound adds an accepted stream; false means that there are too many.
func (l *conns) inbound(c net.Conn) (net.Conn, bool) {
	from, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return nil, false
	}
	in := &conn{Conn: c, list: l, peer: from.AddrPort().Addr().Unmap()}
	in.stranger = !l.knows(in.peer)
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
	all := make([]*conn, 0, len(l.open))
	for c := range l.open {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// Read fails when a stranger has sent too much.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.stranger {
		return n, err
	}
	c.list.mu.Lock()
	defer c.list.mu.Unlock()
	if _, ok := c.list.open[c]; !ok {
		return 0, net.ErrClosed
	}
	c.bytes += n
	c.list.bytes += n
	if c.bytes > strangerBytes || c.list.bytes > strangersBytes {
		return 0, errStranger
	}
	return n, err
}

// Close closes the stream and removes it from the list.
func (c *conn) Close() error {
	c.list.mu.Lock()
	if _, ok := c.list.open[c]; ok {
		delete(c.list.open, c)
		if c.peer.IsValid() {
			c.list.count(c, -1)
			c.list.bytes -= c.bytes
			c.bytes = 0
		}
	}
	c.list.mu.Unlock()
	return c.Conn.Close()
}

// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"errors"
	"net"
	"net/netip"
	"sync"
)

const (
	maxStreams        = 256      // accepted at a time
	maxStreamsPerPeer = 16       // of one address
	maxStrangers      = 64       // of addresses that no member has
	strangerBytes     = 8 << 20  // one stranger's stream; a new node knows little
	strangersBytes    = 16 << 20 // all strangers' streams together
)

var errStranger = errors.New("an address that no member has sent too much")

// conns is the book of open streams. memberlist buffers up to 20 MB of a
// stream before it can check the key, so what strangers send is bounded here.
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

// conn is one stream in the book.
type conn struct {
	net.Conn
	book     *conns
	peer     netip.Addr // of an accepted stream, else invalid
	stranger bool
	bytes    int // read, of a stranger
}

func newConns(knows func(netip.Addr) bool) *conns {
	return &conns{knows: knows, open: make(map[*conn]struct{}), perPeer: make(map[netip.Addr]int)}
}

// outbound enters a stream that this node opened.
func (b *conns) outbound(c net.Conn) (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errors.Join(ErrClosed, c.Close())
	}
	out := &conn{Conn: c, book: b}
	b.open[out] = struct{}{}
	return out, nil
}

// inbound enters an accepted stream; false means that there are too many.
func (b *conns) inbound(c net.Conn) (net.Conn, bool) {
	from, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return nil, false
	}
	in := &conn{Conn: c, book: b, peer: from.AddrPort().Addr().Unmap()}
	in.stranger = !b.knows(in.peer)
	b.mu.Lock()
	defer b.mu.Unlock()
	full := b.accepted >= maxStreams || b.perPeer[in.peer] >= maxStreamsPerPeer
	if b.closed || full || (in.stranger && b.strangers >= maxStrangers) {
		return nil, false
	}
	b.open[in] = struct{}{}
	b.count(in, 1)
	return in, true
}

// count adds or takes away an accepted stream; b.mu is held.
func (b *conns) count(c *conn, n int) {
	b.accepted += n
	if b.perPeer[c.peer] += n; b.perPeer[c.peer] == 0 {
		delete(b.perPeer, c.peer)
	}
	if c.stranger {
		b.strangers += n
	}
}

func (b *conns) closeAll() {
	b.mu.Lock()
	b.closed = true
	all := make([]*conn, 0, len(b.open))
	for c := range b.open {
		all = append(all, c)
	}
	b.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// Read reads, and refuses to go on when a stranger sent too much.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.stranger {
		return n, err
	}
	c.book.mu.Lock()
	defer c.book.mu.Unlock()
	if _, ok := c.book.open[c]; !ok {
		return 0, net.ErrClosed
	}
	c.bytes += n
	c.book.bytes += n
	if c.bytes > strangerBytes || c.book.bytes > strangersBytes {
		return 0, errStranger
	}
	return n, err
}

// Close closes the stream and strikes it from the book.
func (c *conn) Close() error {
	c.book.mu.Lock()
	if _, ok := c.book.open[c]; ok {
		delete(c.book.open, c)
		if c.peer.IsValid() {
			c.book.count(c, -1)
			c.book.bytes -= c.bytes
			c.bytes = 0
		}
	}
	c.book.mu.Unlock()
	return c.Conn.Close()
}

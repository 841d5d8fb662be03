// SPDX-License-Identifier: Apache-2.0

// Package stall knows whether a peer has stopped in the middle of a TLS record, or
// of what its user reads from several records. It must neither change what is read
// nor end a connection.
package stall

import (
	"encoding/binary"
	"net"
	"sync/atomic"
	"time"
)

// Conn is the TCP connection below a TLS connection.
type Conn struct {
	*net.TCPConn
	born    time.Time
	waits   atomic.Int64 // since when a read has been waiting, counted from born; 0: none is
	partial atomic.Bool  // a record has begun to arrive
	owed    atomic.Bool  // see Owe
	record  record       // the reader's
}

// Watch begins with the first byte of the connection.
func Watch(conn *net.TCPConn) *Conn { return &Conn{TCPConn: conn, born: time.Now()} }

func (c *Conn) Read(b []byte) (int, error) {
	c.waits.Store(max(1, int64(time.Since(c.born))))
	n, err := c.TCPConn.Read(b)
	c.waits.Store(0)
	c.record.pass(b[:n])
	c.partial.Store(c.record.partial())
	return n, err
}

// Owe says whether the peer has sent a part of something and owes the rest.
func (c *Conn) Owe(rest bool) { c.owed.Store(rest) }

// Stalled says whether a reader has been waiting that long, without a byte, for the
// rest of something. A connection from which nobody reads isn't stalled: its peer
// may have sent the rest.
func (c *Conn) Stalled(limit time.Duration) bool {
	rest := c.partial.Load() || c.owed.Load() // first: it doesn't change while a read waits
	since := c.waits.Load()
	return rest && since != 0 && time.Since(c.born)-time.Duration(since) >= limit
}

// headerSize is of a TLS record: type, version, and the length of what follows
// (RFC 8446, 5.1).
const headerSize = 5

// record is how far a stream of TLS records has come.
type record struct {
	header [headerSize]byte
	have   int // bytes of header
	rest   int // bytes to come after the header
}

func (r *record) pass(b []byte) {
	for len(b) > 0 {
		if r.rest == 0 {
			n := copy(r.header[r.have:], b)
			b, r.have = b[n:], r.have+n
			if r.have < headerSize {
				return
			}
			r.have, r.rest = 0, int(binary.BigEndian.Uint16(r.header[3:]))
		}
		n := min(r.rest, len(b))
		b, r.rest = b[n:], r.rest-n
	}
}

func (r *record) partial() bool { return r.have > 0 || r.rest > 0 }

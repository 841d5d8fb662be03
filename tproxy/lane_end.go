// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"io"
	"sync"
	"time"

	"tacit/policy"
)

// carried is a stream's place on a lane, as a side.
type carried struct {
	l  *lane
	id uint32

	mu                           sync.Mutex
	finSent, finGot              bool
	resetSent, resetGot, refused bool
	timed                        bool // deadlines were set on the lane
}

// overLocked: nothing more of this stream goes either way.
func (c *carried) overLocked() bool {
	return c.finSent && c.finGot || c.resetSent && c.resetGot
}

func (c *carried) read() (*block, int, error) {
	for {
		h, b, err := c.l.next()
		if err != nil {
			return nil, 0, err
		}
		if h.stream != c.id {
			if err := c.foreign(h, b); err != nil {
				return nil, 0, err
			}
			continue
		}
		if h.kind == kindData && c.listening() {
			return b, h.length, nil
		}
		err = c.event(h, b.payload()[:h.length])
		c.l.blocks.put(b)
		if err != nil {
			return nil, 0, err
		}
	}
}

// foreign deals with a frame of another stream: one of a stream before this
// means nothing, one after it may come once this is over.
func (c *carried) foreign(h header, b *block) error {
	if h.stream < c.id {
		c.l.blocks.put(b)
		return nil
	}
	c.mu.Lock()
	over := c.overLocked()
	c.mu.Unlock()
	if h.kind == kindOpen && over && !c.l.dialled {
		c.l.keep(h, b)
		return errNudged
	}
	c.l.blocks.put(b)
	return c.l.breach("a frame of stream %d within stream %d", h.stream, c.id)
}

// listening: DATA still counts.
func (c *carried) listening() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.finGot && !c.resetSent && !c.resetGot
}

// event takes in a frame that isn't DATA, or DATA that comes too late.
func (c *carried) event(h header, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch h.kind {
	case kindData:
		if c.finGot {
			return c.l.breach("DATA after FIN")
		}
		return nil
	case kindFin:
		if c.finGot {
			return c.l.breach("FIN twice")
		}
		c.finGot = true
		if c.resetSent && !c.finSent {
			return nil // the RESET that answers ours is still to come
		}
		return io.EOF
	case kindReset:
		c.resetGot = true
		return &policy.Refusal{Reason: foreignReason(payload), Detail: "the other node said so"}
	}
	return c.l.breach("OPEN twice for stream %d", h.stream)
}

func (c *carried) write(b *block, n int) error {
	header{kindData, n, c.id}.put(b[:])
	return c.l.send(b[:headerSize+n])
}

func (c *carried) closeWrite() error {
	c.mu.Lock()
	quiet := c.resetSent || c.resetGot
	c.finSent = c.finSent || !quiet
	c.mu.Unlock()
	if quiet {
		return nil
	}
	return c.l.send(appendFrame(nil, kindFin, c.id, nil))
}

func (c *carried) nudge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timed = true
	_ = c.l.conn.SetReadDeadline(time.Unix(1, 0))
}

func (c *carried) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timed = true
	_ = c.l.conn.SetDeadline(time.Now().Add(resetTimeout))
}

// reset sends RESET, unless the peer has sent one: that is answered by close,
// when nothing else of this stream can follow.
func (c *carried) reset(r policy.Reason) {
	c.hurry()
	c.mu.Lock()
	silent := c.resetSent || c.resetGot || c.overLocked()
	c.resetSent = c.resetSent || !silent
	c.mu.Unlock()
	if !silent {
		_ = c.l.send(appendFrame(nil, kindReset, c.id, []byte(r))) // a lane that broke says the same
	}
}

// drain reads until nothing of a stream that was reset can come any more.
func (c *carried) drain() {
	for {
		c.mu.Lock()
		over := c.overLocked() || c.resetGot
		c.mu.Unlock()
		if over {
			return
		}
		b, _, err := c.read()
		c.l.blocks.put(b)
		if err != nil {
			return
		}
	}
}

// refuse ends a stream that this end, the acceptor, doesn't take. What the
// dialer still sends of it means nothing.
func (c *carried) refuse(r policy.Reason) {
	c.reset(r)
	c.mu.Lock()
	c.refused = true
	c.mu.Unlock()
	c.close()
}

func (c *carried) dead() bool { return closedByPeer(c.l.raw) }

// close gives the lane back for the next stream, or ends it when the stream's
// end isn't certain at both ends.
func (c *carried) close() {
	c.mu.Lock()
	answer := c.resetGot && !c.resetSent && !(c.finSent && c.finGot)
	c.resetSent = c.resetSent || answer
	c.mu.Unlock()
	if answer {
		c.hurry()
		_ = c.l.send(appendFrame(nil, kindReset, c.id, []byte(policy.ReasonReset)))
	}
	c.mu.Lock()
	if !c.overLocked() && !c.refused {
		c.l.abort(policy.ReasonLane)
	}
	if c.timed {
		_ = c.l.conn.SetDeadline(time.Time{})
	}
	c.mu.Unlock()
	c.l.release(c.l)
}

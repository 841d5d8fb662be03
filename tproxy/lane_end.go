// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"io"
	"slices"
	"sync"
	"time"

	"tacit/policy"
)

// laneEnd is the end of a stream that is on a lane.
type laneEnd struct {
	l  *lane
	id uint32

	mu    sync.Mutex
	state laneEndState
	timed bool // deadlines were set on the lane
}

// on moves to the next state and says what is to be done.
func (c *laneEnd) on(e laneEndEvent) laneEndAction {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.on(e)
}

// in says whether the stream is in one of the states.
func (c *laneEnd) in(states ...laneEndState) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(states, c.state)
}

func (c *laneEnd) read() (*block, int, error) {
	for {
		h, b, err := c.l.next()
		if err != nil {
			return nil, 0, err
		}
		if h.stream != c.id {
			if err := c.otherStream(h, b); err != nil {
				return nil, 0, err
			}
			continue
		}
		deliver, err := c.received(h, b.payload()[:h.length])
		if deliver {
			return b, h.length, nil
		}
		c.l.blocks.put(b)
		if err != nil {
			return nil, 0, err
		}
	}
}

// otherStream handles a frame that isn't of this stream. One of an earlier stream
// is skipped; OPEN of the next stream is kept until this one is closed.
func (c *laneEnd) otherStream(h header, b *block) error {
	if h.stream < c.id {
		c.l.blocks.put(b)
		return nil
	}
	if h.kind == kindOpen && !c.l.dialled && c.in(stateClosed) {
		c.l.keep(h, b)
		return errWoken
	}
	c.l.blocks.put(b)
	return c.l.breach("a frame of stream %d within stream %d", h.stream, c.id)
}

// received handles one frame of this stream. deliver: its payload is for the
// program. Otherwise a nil error means that the frame is to be skipped.
func (c *laneEnd) received(h header, payload []byte) (deliver bool, err error) {
	var event laneEndEvent
	switch h.kind {
	case kindData:
		event = gotData
	case kindFin:
		event = gotFin
	case kindReset:
		event = gotReset
	default:
		return false, c.l.breach("OPEN twice for stream %d", h.stream)
	}
	switch c.on(event) {
	case doDeliver:
		return true, nil
	case doEnd:
		return false, io.EOF
	case doFail:
		return false, &policy.Refusal{Reason: peerReason(payload), Detail: "the other node said so"}
	case doBreach:
		return false, c.l.breach("%s of stream %d after its end", h.kind, h.stream)
	}
	return false, nil
}

func (c *laneEnd) write(b *block, n int) error {
	header{kindData, n, c.id}.put(b[:])
	return c.l.send(b[:headerSize+n])
}

func (c *laneEnd) closeWrite() error {
	if c.on(sendFin) != doSend {
		return nil
	}
	return c.l.send(appendFrame(nil, kindFin, c.id, nil))
}

func (c *laneEnd) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timed = true
	_ = c.l.conn.SetReadDeadline(time.Unix(1, 0))
}

func (c *laneEnd) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timed = true
	_ = c.l.conn.SetDeadline(time.Now().Add(resetTimeout))
}

// resetFrame sends RESET. An error needs no handling: it has broken the lane, and
// that ends the stream at the other end as well.
func (c *laneEnd) resetFrame(r policy.Reason) {
	_ = c.l.send(appendFrame(nil, kindReset, c.id, []byte(r)))
}

// reset sends RESET, unless the peer has sent one: close answers that one, when
// nothing else of this stream can follow.
func (c *laneEnd) reset(r policy.Reason) {
	c.interrupt()
	if c.on(sendReset) == doSend {
		c.resetFrame(r)
	}
}

// drain reads until no frame of a stream that was reset can come any more.
func (c *laneEnd) drain() {
	for !c.in(stateClosed, stateResetGot) {
		b, _, err := c.read()
		c.l.blocks.put(b)
		if err != nil {
			return
		}
	}
}

// refuse ends a stream that this end, the acceptor, refuses.
func (c *laneEnd) refuse(r policy.Reason) {
	c.interrupt()
	if c.on(refuseStream) == doSend {
		c.resetFrame(r)
	}
	c.close()
}

func (c *laneEnd) dead() bool { return closedByPeer(c.l.raw) }

// close gives the lane back for the next stream, or ends the lane when frames
// of this stream may still come.
func (c *laneEnd) close() {
	switch c.on(letGo) {
	case doSend:
		c.interrupt()
		c.resetFrame(policy.ReasonReset)
	case doAbort:
		c.l.abort(policy.ReasonLane)
	}
	c.mu.Lock()
	if c.timed {
		_ = c.l.conn.SetDeadline(time.Time{})
	}
	c.mu.Unlock()
	c.l.release(c.l)
}

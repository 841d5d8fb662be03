// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"io"
	"slices"
	"sync"
	"time"

	"tacit/policy"
	"tacit/tproxy/lane/ending"
	"tacit/tproxy/socket"
)

// End is the end of a stream that is on a lane. One goroutine reads, another
// writes; Wake, Interrupt and Reset may be called from any goroutine.
type End struct {
	l  *lane
	id uint32

	mu    sync.Mutex
	state ending.State
	timed bool // deadlines were set on the lane
}

// on moves to the next state and says what is to be done.
func (c *End) on(e ending.Event) ending.Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.On(e)
}

// in says whether the stream is in one of the states.
func (c *End) in(states ...ending.State) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(states, c.state)
}

// Read returns the next bytes of the other end, in a block that the caller puts
// back. io.EOF stands for FIN and comes once: a further read waits for a RESET,
// whose reason is then the error's, or for Wake (ErrWoken).
func (c *End) Read() (*Block, int, error) {
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
		deliver, err := c.received(h, b.Payload()[:h.length])
		if deliver {
			return b, h.length, nil
		}
		c.l.blocks.Put(b)
		if err != nil {
			return nil, 0, err
		}
	}
}

// otherStream handles a frame that isn't of this stream. One of an earlier stream
// is skipped; OPEN of the next stream is kept until this one is closed.
func (c *End) otherStream(h header, b *Block) error {
	if h.stream < c.id {
		c.l.blocks.Put(b)
		return nil
	}
	if h.kind == kindOpen && !c.l.dialled && c.in(ending.StateClosed) {
		c.l.keep(h, b)
		return ErrWoken
	}
	c.l.blocks.Put(b)
	return c.l.breach("a frame of stream %d within stream %d", h.stream, c.id)
}

// received handles one frame of this stream. deliver: its payload is for the
// program. Otherwise a nil error means that the frame is to be skipped.
func (c *End) received(h header, payload []byte) (deliver bool, err error) {
	var event ending.Event
	switch h.kind {
	case kindData:
		event = ending.GotData
	case kindFin:
		event = ending.GotFin
	case kindReset:
		event = ending.GotReset
	default:
		return false, c.l.breach("OPEN twice for stream %d", h.stream)
	}
	switch c.on(event) {
	case ending.DoDeliver:
		return true, nil
	case ending.DoEnd:
		return false, io.EOF
	case ending.DoFail:
		return false, &policy.Refusal{Reason: peerReason(payload), Detail: "the other node said so"}
	case ending.DoBreach:
		return false, c.l.breach("%s of stream %d after its end", h.kind, h.stream)
	}
	return false, nil
}

// Write sends the first n bytes of b's payload; b stays the caller's.
func (c *End) Write(b *Block, n int) error {
	header{kindData, n, c.id}.put(b[:])
	return c.l.send(b[:headerSize+n])
}

// CloseWrite sends FIN, unless the stream was reset.
func (c *End) CloseWrite() error {
	if c.on(ending.SendFin) != ending.DoSend {
		return nil
	}
	return c.l.send(appendFrame(nil, kindFin, c.id, nil))
}

// Wake ends a read that waits, with ErrWoken.
func (c *End) Wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timed = true
	_ = c.l.conn.SetReadDeadline(time.Unix(1, 0))
}

// Interrupt makes every read and write, current or later, end within
// ResetTimeout. It doesn't block.
func (c *End) Interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timed = true
	_ = c.l.conn.SetDeadline(time.Now().Add(ResetTimeout))
}

// resetFrame sends RESET. An error needs no handling: it has broken the lane, and
// that ends the stream at the other end as well.
func (c *End) resetFrame(r policy.Reason) {
	_ = c.l.send(appendFrame(nil, kindReset, c.id, []byte(r)))
}

// Reset sends RESET, unless the peer has sent one: Close answers that one, when
// nothing else of this stream can follow.
func (c *End) Reset(r policy.Reason) {
	c.Interrupt()
	if c.on(ending.SendReset) == ending.DoSend {
		c.resetFrame(r)
	}
}

// drain reads until no frame of a stream that was reset can come any more.
func (c *End) drain() {
	for !c.in(ending.StateClosed, ending.StateResetGot) {
		b, _, err := c.Read()
		c.l.blocks.Put(b)
		if err != nil {
			return
		}
	}
}

// Refuse ends a stream that this end, the acceptor, refuses.
func (c *End) Refuse(r policy.Reason) {
	c.Interrupt()
	if c.on(ending.RefuseStream) == ending.DoSend {
		c.resetFrame(r)
	}
	c.Close()
}

// Dead says whether the lane's connection has ended, without reading from it.
func (c *End) Dead() bool { return socket.Closed(c.l.raw) }

// Abort ends the lane at once: the peer is lost. Reads and writes end with the
// reason "lane".
func (c *End) Abort() { c.l.abort(policy.ReasonLane) }

// Close gives the lane back for the next stream, or ends the lane when frames
// of this stream may still come. Reader and writer must have ended.
func (c *End) Close() {
	switch c.on(ending.LetGo) {
	case ending.DoSend:
		c.Interrupt()
		c.resetFrame(policy.ReasonReset)
	case ending.DoAbort:
		c.l.abort(policy.ReasonLane)
	}
	c.mu.Lock()
	if c.timed {
		_ = c.l.conn.SetDeadline(time.Time{})
	}
	c.mu.Unlock()
	c.l.release(c.l)
}

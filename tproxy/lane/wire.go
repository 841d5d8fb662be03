// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"tacit/policy"
	"tacit/tproxy/lane/frame"
	"tacit/tproxy/lane/pulse"
	"tacit/tproxy/loop"
	"tacit/tproxy/record"
	"tacit/tproxy/socket"
)

// Records is the record layer of a lane: *record.Layer.
type Records interface {
	frame.Sealer
	// Open opens a complete record in place. It returns nothing for one that carries
	// no application data, and io.EOF for the peer's orderly end.
	Open(record []byte) ([]byte, error)
	// End makes the alert that says why this end closes the connection; nil: in an
	// orderly way.
	End(b []byte, cause error) (int, error)
}

// wire is the connection of a lane, what was read from it, and what is to be written.
type wire struct {
	conn    socket.Conn
	records Records
	out     *frame.Writer

	readable  bool
	hup       bool // the peer's end was seen: a short read doesn't mean that all was read
	blocked   bool // the last write took less than it was given
	queued    bool // Flush comes at the end of this turn
	again     bool // read comes in its turn
	offering  bool // offer comes in its turn
	pong      bool // a PING is to be answered
	paused    bool // a proof is being verified: what came behind it waits
	finishing bool // close_notify is the last that is written
	tail      []byte
	plain     []byte    // what follows the proof in its record
	heard     time.Time // when the peer was heard last
	pulse     pulse.Pulse
}

// readsPerTurn is how often a lane reads in one turn, so that the others have theirs.
const readsPerTurn = 4

// Ready is loop.Handler's.
func (l *lane) Ready(e loop.Events) {
	if e&(loop.PeerClosed|loop.Failed) != 0 {
		l.hup = true
	}
	if e&loop.Writable != 0 && l.blocked {
		l.blocked = false
		l.Flush()
	}
	if e&^loop.Writable != 0 {
		l.readable = true
		l.read()
	}
}

// read reads what is there. It never stops because output is blocked: two nodes that
// wait for each other would be dead-locked.
func (l *lane) read() {
	for n := 0; l.readable && !l.paused && !l.ending; n++ {
		if n == readsPerTurn {
			l.readAgain()
			return
		}
		l.readOnce()
	}
}

// readAgain reads on in a later turn.
func (l *lane) readAgain() {
	if !l.again {
		l.again = true
		l.loop.Queue(loop.Func(func() {
			l.again = false
			l.read()
		}))
	}
}

func (l *lane) readOnce() {
	buf := l.loop.input[0]
	have := copy(buf, l.tail)
	l.loop.input[0] = buf[have:]
	n, err := l.conn.Readv(l.loop.input)
	l.loop.input[0] = buf
	switch {
	case errors.Is(err, unix.EAGAIN):
		l.readable = false
		return
	case err == nil && n == 0:
		err = io.EOF
	}
	if err != nil {
		l.endNow(policy.ReasonLane, err)
		return
	}
	l.readable = have+n == len(buf) || l.hup
	l.heard = time.Now()
	l.pulse.Heard()
	l.moved.Add(int64(n))
	l.take(buf[:have+n])
}

// take opens the records in b, and keeps the start of an incomplete one.
func (l *lane) take(b []byte) {
	for !l.paused && !l.ending {
		n, err := record.Length(b)
		if err != nil {
			l.breach(err.Error())
			return
		}
		if n == 0 || n > len(b) {
			break
		}
		plain, err := l.records.Open(b[:n])
		if err != nil {
			l.broke(err)
			return
		}
		if l.records.NeedUpdate() {
			l.queue()
		}
		l.frames(plain)
		b = b[n:]
	}
	l.deliver()
	if l.tail = append(l.tail[:0], b...); len(b) == 0 && cap(l.tail) > 2*record.MaxRecord {
		l.tail = nil
	}
}

// broke ends the lane by an error of its record layer.
func (l *lane) broke(err error) {
	l.deliver()
	if errors.Is(err, io.EOF) {
		l.endNow(policy.ReasonLane, errors.New("the peer has ended it"))
		return
	}
	l.breach(err.Error())
}

func (l *lane) frames(plain []byte) {
	for len(plain) > 0 && !l.ending && !l.finishing {
		h, payload, rest, err := frame.Next(plain)
		if err != nil {
			l.breach(err.Error())
			return
		}
		plain = rest
		l.handle(h, payload)
		if l.paused {
			l.plain = append(l.plain[:0], plain...)
			return
		}
	}
}

// pause has a proof verified in a goroutine. What came behind the proof is handled
// afterwards, since it may rest on it.
func (l *lane) pause(payload []byte) {
	l.paused = true
	payload = append([]byte(nil), payload...)
	l.work.Go(func() {
		err := l.learn(payload)
		l.loop.Do(func() {
			l.paused = false
			if err != nil {
				l.endNow(policy.ReasonOf(err, policy.ReasonProof), err)
				return
			}
			l.resume()
		})
	})
}

// resume goes on after a pause.
func (l *lane) resume() {
	plain := l.plain
	l.plain = nil
	l.frames(plain)
	if !l.paused && !l.ending {
		tail := l.tail
		l.tail = nil
		l.take(tail)
	} else {
		l.deliver()
	}
	l.read()
}

// send queues a frame other than DATA.
func (l *lane) send(k frame.Kind, stream uint32, payload []byte) {
	if l.ending || l.finishing {
		return
	}
	l.out.Append(k, stream, payload)
	l.queue()
}

// queue makes what was collected leave at the end of this turn, with one write.
func (l *lane) queue() {
	if !l.queued {
		l.queued = true
		l.loop.AtEnd(l)
	}
}

// outputLimit is how much may wait to be written before the lane is cut: its peer
// doesn't read, and yet makes this node answer.
const outputLimit = 8 << 20

// Flush is loop.Flusher's: it writes what was collected.
func (l *lane) Flush() {
	l.queued = false
	if l.ending {
		return
	}
	if l.pong && !l.finishing {
		l.pong = false
		l.out.Append(frame.Pong, 0, nil) // one for all PINGs before it
	}
	for b := l.out.Finish(); len(b) > 0 && !l.blocked && !l.ending; {
		l.loop.parts[0] = b
		n, err := l.conn.Writev(l.loop.parts)
		l.loop.parts[0] = nil
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			l.endNow(policy.ReasonLane, err)
			return
		}
		l.blocked = n < len(b)
		l.pulse.Wrote(n)
		l.out.Wrote(n)
		b = b[n:]
	}
	switch {
	case l.out.Err() != nil:
		l.endNow(policy.ReasonLane, l.out.Err())
	case l.finishing && !l.blocked:
		l.end(policy.ReasonIdle, errors.New("it carries nothing"), socket.Conn.Close)
	case !l.blocked && len(l.waiting) > 0 && !l.offering:
		l.offering = true
		l.loop.Queue(loop.Func(l.offer))
	case l.out.Pending() > outputLimit:
		l.endNow(policy.ReasonSlow, fmt.Errorf("%d bytes wait to be read by it", l.out.Pending()))
	}
}

// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"tacit/policy"
	"tacit/tproxy/loop"
	"tacit/tproxy/socket"
)

// program is a program's socket, on a loop. It is the near end of a stream, and also
// the far end where two programs of this node are joined.
type program struct {
	conn   socket.Conn
	thread *thread
	moved  func() // called when something may go on

	awaited  func(error) // connect() has not ended yet
	watched  bool
	readable bool
	hup      bool // the peer's end or urgent data was seen: a short read doesn't mean that all was read
	failed   bool // it was reset: nothing can be written, what has arrived can still be read
	blocked  bool // the last write took less than it was given
	fin      bool // FIN is to be sent after the queue
	finSent  bool
	closed   bool
	queue    []byte // what the socket didn't take
	areas    [1][]byte
}

func newProgram(fd int, t *thread) *program {
	return &program{conn: socket.New(fd), thread: t, readable: true, moved: func() {}}
}

// watch makes the loop tell of events, and takes what is there already for granted.
func (p *program) watch() error {
	if p.watched || p.closed {
		return nil
	}
	p.watched = true
	return p.thread.Watch(p.conn.FD(), p)
}

// connected calls then once connect() has ended: at once, where it has already, as it
// mostly has on this host, and when the time is over at the latest.
func (p *program) connected(limit time.Duration, then func(error)) {
	if p.conn.Connected() {
		then(nil)
		return
	}
	p.awaited = then
	if err := p.watch(); err != nil {
		p.connectEnded(err)
		return
	}
	p.thread.after(limit, func() { p.connectEnded(unix.ETIMEDOUT) })
}

func (p *program) connectEnded(err error) {
	if then := p.awaited; then != nil {
		p.awaited = nil
		then(err)
	}
}

// Ready is loop.Handler's.
func (p *program) Ready(e loop.Events) {
	if p.awaited != nil {
		if err := p.conn.Err(); err != nil || e&loop.Writable != 0 {
			p.connectEnded(err)
		}
		return
	}
	p.failed = p.failed || e&loop.Failed != 0
	p.hup = p.hup || e&(loop.PeerClosed|loop.Failed|loop.Urgent) != 0
	p.readable = p.readable || e&^loop.Writable != 0
	p.blocked = p.blocked && e&loop.Writable == 0
	p.moved()
}

// read reads into the areas. It returns EAGAIN where nothing is there; n = 0: FIN. The
// kernel tells of a reset once, maybe to a write: then it looks like FIN to a read.
func (p *program) read(into [][]byte) (n int, err error) {
	n, err = p.conn.Readv(into)
	switch {
	case err != nil:
		p.readable = false
	case n == 0:
		p.readable = false
		if p.failed {
			err = unix.ECONNRESET
		}
	default:
		p.readable = p.hup || n == size(into)
	}
	return n, err
}

func size(parts [][]byte) (n int) {
	for _, b := range parts {
		n += len(b)
	}
	return n
}

// write sends the parts, or keeps what the socket doesn't take. It returns how much it
// took.
func (p *program) write(parts [][]byte) (took int) {
	for !p.blocked && len(p.queue) == 0 && len(parts) > 0 && !p.failed {
		n, err := p.conn.Writev(parts)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			p.fail()
		}
		took += n
		p.blocked = n < size(parts[:min(len(parts), socket.MaxParts)])
		parts = after(parts, n)
	}
	if p.failed {
		return took
	}
	for _, b := range parts {
		p.queue = append(p.queue, b...)
	}
	return took
}

// fail notes that the connection was reset: its reader finds out, behind what has
// arrived.
func (p *program) fail() {
	p.failed, p.hup, p.readable, p.queue = true, true, true, nil
	p.moved()
}

// after is what follows the first n bytes.
func after(parts [][]byte, n int) [][]byte {
	for len(parts) > 0 && n >= len(parts[0]) {
		n -= len(parts[0])
		parts = parts[1:]
	}
	if n > 0 {
		parts[0] = parts[0][n:]
	}
	return parts
}

// flush sends what was kept, and FIN behind it.
func (p *program) flush() (took int) {
	if queue := p.queue; len(queue) > 0 && !p.blocked {
		p.queue = nil
		p.areas[0] = queue
		took = p.write(p.areas[:])
		p.areas[0] = nil
	}
	if p.fin && !p.finSent && len(p.queue) == 0 && !p.failed {
		if p.finSent = p.conn.CloseWrite() == nil; !p.finSent {
			p.fail()
		}
	}
	return took
}

// Areas returns where bytes for this program may be put; none while it hasn't taken
// those before.
func (p *program) Areas(bool) [][]byte {
	if p.blocked || len(p.queue) > 0 || p.fin || p.failed {
		return nil
	}
	return p.thread.scratch
}

// Commit sends the first n bytes of the last Areas.
func (p *program) Commit(n int) {
	if n == 0 {
		return
	}
	p.areas[0] = p.thread.scratch[0][:n]
	p.write(p.areas[:])
}

// Fin ends the direction to this program.
func (p *program) Fin() {
	p.fin = true
	p.flush()
}

// Took is for streams on lanes, which grant credit for it.
func (p *program) Took(int) {}

// Reset resets the connection.
func (p *program) Reset(policy.Reason) { p.end(socket.Conn.Reset) }

// close ends the connection in an orderly way.
func (p *program) close() { p.end(socket.Conn.Close) }

func (p *program) end(how func(socket.Conn)) {
	if p.closed {
		return
	}
	p.closed, p.queue = true, nil
	p.thread.Forget(p.conn.FD(), true)
	how(p.conn)
}

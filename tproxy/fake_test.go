// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"tacit/policy"
	"tacit/tproxy/lane"
	"tacit/tproxy/loop"
	"tacit/tproxy/socket"
)

// fakeLoop is an event loop whose turns the test takes.
type fakeLoop struct {
	faults  *mistakes
	sockets []*fakeConn
	posted  []func()
	queue   []loop.Runner
	timers  []func()
}

// mistakes are what a run has done wrong.
type mistakes struct{ first string }

func (f *mistakes) add(format string, args ...any) {
	if f.first == "" {
		f.first = fmt.Sprintf(format, args...)
	}
}

func (l *fakeLoop) Do(f func()) bool    { l.posted = append(l.posted, f); return true }
func (l *fakeLoop) Queue(r loop.Runner) { l.queue = append(l.queue, r) }
func (l *fakeLoop) AtEnd(loop.Flusher)  {}

func (l *fakeLoop) Watch(fd int, h loop.Handler) error {
	l.sockets[fd].handler, l.sockets[fd].edge = h, true
	return nil
}

func (l *fakeLoop) Forget(fd int, _ bool) { l.sockets[fd].handler = nil }

// turn does what package loop does until nothing is left to do.
func (l *fakeLoop) turn() {
	for n := 0; l.once(); n++ {
		if n == 100 {
			l.faults.add("the loop never rests")
			return
		}
	}
}

func (l *fakeLoop) once() (busy bool) {
	for _, c := range l.sockets {
		if c.edge && c.handler != nil {
			c.edge, busy = false, true
			c.handler.Ready(c.mask())
		}
	}
	posted := l.posted
	l.posted = nil
	for _, f := range posted {
		f()
	}
	queue := l.queue
	l.queue = nil
	for _, r := range queue {
		r.Run()
	}
	return busy || len(posted)+len(queue) > 0
}

func (l *fakeLoop) expire() {
	timers := l.timers
	l.timers = nil
	for _, f := range timers {
		f()
	}
}

// fakeThread is a thread on a fake loop. Its buffers are few and small.
func fakeThread(base *lane.Loop, l *fakeLoop) *thread {
	base.Events = l
	return &thread{Loop: base, scratch: [][]byte{make([]byte, 4)}, part: make([][]byte, 1),
		after: func(_ time.Duration, f func()) { l.timers = append(l.timers, f) }}
}

// Bytes of both directions are numbered: whoever gets some sees gaps and repeats.
type numbered struct{ n int }

func (c *numbered) next(b []byte) {
	for i := range b {
		b[i] = byte(c.n)
		c.n++
	}
}

func (c *numbered) check(f *mistakes, who string, b []byte) {
	for _, got := range b {
		if got != byte(c.n) {
			f.add("%s got byte %d, want %d", who, got, byte(c.n))
		}
		c.n++
	}
}

// fakeConn is a TCP socket with a program at its other end, as the kernel shows it to
// epoll, read, write and shutdown: see tcp_poll and tcp_reset in net/ipv4.
type fakeConn struct {
	faults  *mistakes
	fd      int
	handler loop.Handler
	edge    bool

	in         []byte // sent by the program, not read
	sent, got  numbered
	eof, reset bool
	err        bool // a reset that no call has returned yet
	room       int
	full       bool // a write found no room: more room is an event
	fin        bool
	connecting bool
	ended      string // close or reset
}

func (c *fakeConn) mask() (e loop.Events) {
	if len(c.in) > 0 || c.eof || c.reset {
		e |= loop.Readable
	}
	if c.eof || c.reset {
		e |= unix.EPOLLRDHUP
	}
	if c.reset || c.eof && c.fin {
		e |= unix.EPOLLHUP
	}
	if c.err {
		e |= loop.Failed
	}
	if c.reset || c.room > 0 && !c.connecting {
		e |= loop.Writable
	}
	return e
}

// What the program does.

func (c *fakeConn) send(n int) bool {
	if c.eof || c.reset {
		return false
	}
	b := make([]byte, n)
	c.sent.next(b)
	c.in, c.edge = append(c.in, b...), true
	return true
}

func (c *fakeConn) sendFin() bool {
	if c.eof || c.reset {
		return false
	}
	c.eof, c.edge = true, true
	return true
}

func (c *fakeConn) sendReset() bool {
	if c.reset {
		return false
	}
	c.reset, c.err, c.edge = true, true, true
	return true
}

func (c *fakeConn) take(n int) bool {
	if c.reset {
		return false
	}
	c.room += n
	c.edge, c.full = c.edge || c.full, false
	return true
}

// What the proxy does.

func (c *fakeConn) FD() int           { return c.fd }
func (c *fakeConn) Connected() bool   { return !c.connecting && !c.reset }
func (c *fakeConn) Unacked() int      { return 0 }
func (c *fakeConn) Path() socket.Path { return socket.Path{} }

func (c *fakeConn) Local() netip.AddrPort { return netip.AddrPort{} }

func (c *fakeConn) Err() error {
	if !c.err {
		return nil
	}
	c.err = false
	return unix.ECONNRESET
}

func (c *fakeConn) Readv(into [][]byte) (n int, err error) {
	c.live("read")
	for _, b := range into {
		k := copy(b, c.in)
		n, c.in = n+k, c.in[k:]
	}
	switch {
	case n > 0 || c.eof:
		return n, nil
	case c.err:
		return 0, c.Err()
	case c.reset:
		return 0, nil
	}
	return 0, unix.EAGAIN
}

func (c *fakeConn) Writev(from [][]byte) (n int, err error) {
	c.live("write")
	switch {
	case c.fin:
		c.faults.add("a write after FIN")
	case c.err:
		return 0, c.Err()
	case c.reset:
		return 0, unix.EPIPE
	}
	for _, b := range from {
		k := min(len(b), c.room)
		c.got.check(c.faults, "the program", b[:k])
		n, c.room, c.full = n+k, c.room-k, k < len(b)
	}
	if n == 0 && c.full {
		return 0, unix.EAGAIN
	}
	return n, nil
}

func (c *fakeConn) CloseWrite() error {
	c.live("shutdown")
	if c.reset {
		return unix.ENOTCONN
	}
	if c.fin {
		c.faults.add("FIN twice")
	}
	c.fin = true
	return nil
}

func (c *fakeConn) Close() { c.end("close") }
func (c *fakeConn) Reset() { c.end("reset") }

func (c *fakeConn) end(how string) {
	c.live(how)
	c.ended, c.in = how, nil
}

func (c *fakeConn) live(call string) {
	if c.ended != "" {
		c.faults.add("%s after %s", call, c.ended)
	}
}

// fakeFar is the far end of a stream on a lane.
type fakeFar struct {
	faults    *mistakes
	s         *stream
	room      int
	wanting   bool
	lent      [][]byte
	buf       [8]byte
	sent, got numbered
	eof, fin  bool
	joined    bool
	lost      bool
	resets    int
	took      int
}

func (f *fakeFar) live(call string) {
	if f.lost || f.resets > 0 {
		f.faults.add("%s of a far end that is over", call)
	}
	if f.lent != nil {
		f.faults.add("%s before Commit", call)
	}
}

// Areas gives room in areas of at most three bytes, more than one if wide.
func (f *fakeFar) Areas(wide bool) (areas [][]byte) {
	f.live("Areas")
	for room, b := f.room, f.buf[:]; room > 0 && len(b) > 0 && (wide || len(areas) == 0); {
		k := min(room, 3, len(b))
		areas, b, room = append(areas, b[:k]), b[k:], room-k
	}
	f.wanting, f.lent = len(areas) == 0, areas
	return areas
}

func (f *fakeFar) Commit(n int) {
	if f.lent == nil {
		f.faults.add("Commit without Areas")
	}
	f.lent, f.room = nil, f.room-n
	f.got.check(f.faults, "the far end", f.buf[:n])
}

func (f *fakeFar) Fin() {
	f.live("Fin")
	if f.fin {
		f.faults.add("FIN twice to the far end")
	}
	f.fin = true
}

func (f *fakeFar) Reset(policy.Reason) {
	f.live("Reset")
	f.resets++
}

func (f *fakeFar) Took(n int) {
	f.live("Took")
	f.took += n
}

// What the peer does.

func (f *fakeFar) open() bool { return f != nil && f.joined && !f.lost && f.resets == 0 }

func (f *fakeFar) send(n int) bool {
	if !f.open() || f.eof {
		return false
	}
	b := make([]byte, n)
	f.sent.next(b)
	f.s.Deliver([][]byte{b[:1], b[1:]})
	return true
}

func (f *fakeFar) sendFin() bool {
	if !f.open() || f.eof {
		return false
	}
	f.eof = true
	f.s.End()
	return true
}

func (f *fakeFar) lose(r policy.Reason) bool {
	if !f.open() {
		return false
	}
	f.lost = true
	f.s.Lost(&policy.Refusal{Reason: r})
	return true
}

// take gives room; n = 0: takes all room away.
func (f *fakeFar) take(n int) bool {
	if !f.open() || n == 0 && f.room == 0 {
		return false
	}
	if f.room += n; n == 0 {
		f.room = 0
	}
	if f.wanting && f.room > 0 {
		f.wanting = false
		f.s.Room()
	}
	return true
}

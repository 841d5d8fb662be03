// SPDX-License-Identifier: Apache-2.0

// Package loop runs event loops: one goroutine waits with epoll for many descriptors
// and calls their handlers, one after the other. Everything that belongs to a loop
// is done by its goroutine, so handlers need no locks and must never block. The package
// must not know what is carried, nor read or write a descriptor that it watches.
package loop

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Events say what a descriptor is ready for. They are edge-triggered: one that came
// holds until the handler has met EAGAIN, or a short read without PeerClosed and Urgent.
type Events uint32

// The events.
const (
	Readable   Events = unix.EPOLLIN
	Writable   Events = unix.EPOLLOUT
	PeerClosed Events = unix.EPOLLRDHUP | unix.EPOLLHUP // FIN, or a reset, has arrived
	Failed     Events = unix.EPOLLERR                   // the connection was reset, or given up
	Urgent     Events = unix.EPOLLPRI                   // a byte was sent as urgent: a read stops before it
)

// Handler is told what its descriptor is ready for.
type Handler interface{ Ready(Events) }

// Flusher has something to do at the end of a turn, when all events were handled:
// sending what they led to with one write.
type Flusher interface{ Flush() }

// Runner has something to do besides handling an event: it is run in its turn.
type Runner interface{ Run() }

// Func is a function as a Runner.
type Func func()

// Run calls f.
func (f Func) Run() { f() }

// Loop is one event loop. Do and Close may be called from any goroutine, everything
// else on the loop only: from a handler, a flusher or what was given to Do.
type Loop struct {
	log   *slog.Logger
	epoll int // the epoll descriptor
	wake  int // an eventfd that ends a wait
	slots []slot
	queue []Runner // in order; what a turn has no time for stays
	late  []func() // what was posted; likewise
	flush []Flusher
	lone  lone
	copy  int      // of epoll, to be put into Go's poller
	outer *os.File // copy, in Go's poller; nil: it isn't there
	ended chan struct{}

	asleep atomic.Bool
	began  atomic.Int64 // when the present turn began, Unix nanoseconds; 0: the loop waits

	mu     sync.Mutex
	posted []func()
	closed bool
}

// slot is what is watched at one descriptor. Its generation tells events of an
// earlier user of the same number apart.
type slot struct {
	handler    Handler
	generation int32
}

// New starts a loop.
func New(log *slog.Logger) (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("event loop: epoll_create1: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("event loop: eventfd: %w", err)
	}
	fd, err := copyOf(epoll)
	if err != nil {
		_, _ = unix.Close(epoll), unix.Close(wake)
		return nil, fmt.Errorf("event loop: copy the epoll descriptor: %w", err)
	}
	l := &Loop{log: log, epoll: epoll, copy: fd, wake: wake, ended: make(chan struct{}), lone: newLone()}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(wake), Pad: -1}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &event); err != nil {
		l.release()
		return nil, fmt.Errorf("event loop: watch the eventfd: %w", err)
	}
	go l.run()
	return l, nil
}

// Do calls f on the loop, in the order of the calls. It returns false, and f isn't
// called, once the loop is closed.
func (l *Loop) Do(f func()) bool {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	l.posted = append(l.posted, f)
	l.mu.Unlock()
	l.rouse()
	return true
}

// rouse ends the wait of a loop that waits.
func (l *Loop) rouse() {
	if l.asleep.CompareAndSwap(true, false) {
		count := uint64(1)
		_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(l.wake), uintptr(unsafe.Pointer(&count)), unsafe.Sizeof(count)) // it fails only when the counter is full: then the loop wakes anyway
	}
}

// Queue runs r after all that is queued already, in this turn or a later one. Whoever
// calls it makes sure that r isn't there already.
func (l *Loop) Queue(r Runner) { l.queue = append(l.queue, r) }

// AtEnd flushes f at the end of this turn. Whoever calls it makes sure that f isn't
// there already.
func (l *Loop) AtEnd(f Flusher) { l.flush = append(l.flush, f) }

const watched = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET

// Watch tells h what fd is ready for, until Forget.
func (l *Loop) Watch(fd int, h Handler) error {
	for fd >= len(l.slots) {
		l.slots = append(l.slots, slot{})
	}
	s := &l.slots[fd]
	s.generation = (s.generation + 1) & 0x7fffffff
	s.handler = h
	event := unix.EpollEvent{Events: watched, Fd: int32(fd), Pad: s.generation}
	if _, _, err := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(l.epoll), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&event)), 0, 0); err != 0 {
		s.handler = nil
		return fmt.Errorf("event loop: watch a descriptor: %w", err)
	}
	return nil
}

// Forget stops watching fd. Whoever closes fd afterwards, on this loop, needs no
// system call for it: the kernel forgets closed descriptors by itself, epoll(7).
func (l *Loop) Forget(fd int, closing bool) {
	if fd >= len(l.slots) || l.slots[fd].handler == nil {
		return
	}
	l.slots[fd].handler = nil
	if !closing {
		_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil)
	}
}

// Busy is how long the present turn has lasted; 0: the loop waits for events.
func (l *Loop) Busy(now time.Time) time.Duration {
	began := l.began.Load()
	if began == 0 {
		return 0
	}
	return now.Sub(time.Unix(0, began))
}

// Close ends the loop after what was given to Do before, and waits for its end. It
// must not be called on the loop.
func (l *Loop) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.rouse()
	<-l.ended
}

func (l *Loop) release() {
	_, _ = l.inPoller() // so that one way to close the copy does
	_ = l.outer.Close()
	_ = unix.Close(l.epoll)
	_ = unix.Close(l.wake)
}

func (l *Loop) run() {
	defer close(l.ended)
	defer l.release()
	events := make([]unix.EpollEvent, 512)
	for {
		n := l.wait(events)
		now := time.Now()
		l.began.Store(now.UnixNano())
		l.lone.saw(events[:n], now)
		over := l.turn(events[:n])
		l.began.Store(0)
		if over {
			return
		}
	}
}

// turnTime is how long a turn works on its queue. After that, events come first again,
// so that what is urgent doesn't wait for what is much.
const turnTime = 2 * time.Millisecond

// turn handles what has happened, in this order: events, what other goroutines posted,
// what is queued, as far as time allows, and what all that leads to.
func (l *Loop) turn(events []unix.EpollEvent) (over bool) {
	for i := range events {
		l.dispatch(&events[i])
	}
	l.mu.Lock()
	if len(l.late) == 0 {
		l.late, l.posted = l.posted, nil
	}
	over = l.closed && len(l.late) == 0
	l.mu.Unlock()
	l.runLate()
	l.runQueue()
	l.flushAll()
	return over
}

// runLate calls what was posted, as far as time allows.
func (l *Loop) runLate() {
	if len(l.late) == 0 {
		return
	}
	began := time.Now()
	for n, f := range l.late {
		if n%8 == 7 && time.Since(began) > turnTime {
			l.late = l.late[n:]
			return
		}
		l.late[n] = nil
		f()
	}
	l.late = nil
}

func (l *Loop) runQueue() {
	if len(l.queue) == 0 {
		return
	}
	began, n := time.Now(), 0
	for n < len(l.queue) { // what is run may queue more
		r := l.queue[n]
		l.queue[n] = nil
		n++
		r.Run()
		if n%8 == 0 && time.Since(began) > turnTime {
			break
		}
	}
	rest := copy(l.queue, l.queue[n:])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
}

func (l *Loop) dispatch(e *unix.EpollEvent) {
	fd := int(e.Fd)
	if fd == l.wake {
		var count uint64
		_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(l.wake), uintptr(unsafe.Pointer(&count)), unsafe.Sizeof(count))
		return
	}
	if s := l.slots[fd]; s.handler != nil && s.generation == e.Pad {
		s.handler.Ready(Events(e.Events))
	}
}

func (l *Loop) flushAll() {
	for i := 0; i < len(l.flush); i++ { // flushing may add flushers
		l.flush[i].Flush()
		l.flush[i] = nil
	}
	l.flush = l.flush[:0]
}

// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wait returns the number of events. It doesn't wait while there is something to do.
//
// Go's poller waits for the loop, of which the epoll descriptor is just another one: it
// takes its time to wake the loop, so that more is done at once. Where there is nothing
// to combine, the loop waits by itself, as long as that lasts.
func (l *Loop) wait(events []unix.EpollEvent) (n int) {
	l.asleep.Store(true)
	defer l.asleep.Store(false)
	if l.lone.is() && !l.waiting() && l.byItself() {
		if n = l.poll(events, loneWait); n > 0 {
			return n
		}
		l.lone.turns = 0
	}
	if n = l.poll(events, 0); n > 0 || l.waiting() {
		return n
	}
	outer, err := l.inPoller()
	if err == nil {
		err = outer.Read(func(uintptr) bool { n = l.poll(events, 0); return n > 0 || l.waiting() })
	}
	if err != nil {
		l.log.Error("event loop: wait for events", "err", err)
		n = l.poll(events, loneWait)
	}
	return n
}

// inPoller puts the copy of the epoll descriptor into Go's poller.
func (l *Loop) inPoller() (syscall.RawConn, error) {
	if l.outer == nil {
		l.outer = os.NewFile(uintptr(l.copy), "epoll")
	}
	return l.outer.SyscallConn()
}

// byItself takes the copy from Go's poller, which would wake a thread of the runtime for
// each event, and makes the next one; false: there is no descriptor for it.
func (l *Loop) byItself() bool {
	if l.outer == nil {
		return true
	}
	fd, err := copyOf(l.epoll)
	if err != nil {
		return false
	}
	_ = l.outer.Close()
	l.outer, l.copy = nil, fd
	return true
}

// copyOf is a copy of an epoll descriptor that os.NewFile puts into Go's poller.
func copyOf(epoll int) (int, error) {
	fd, err := unix.FcntlInt(uintptr(epoll), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	return fd, err
}

// poll returns the number of events that there are within some milliseconds. Go's
// scheduler isn't told; the signals by which it stops goroutines end a wait.
func (l *Loop) poll(events []unix.EpollEvent, millis int) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(millis), 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// waiting says whether there is something to do. A post after it ends the wait.
func (l *Loop) waiting() bool {
	if len(l.queue) > 0 || len(l.late) > 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.posted) > 0 || l.closed
}

const (
	loneTurns = 16                   // of one conversation, before the loop waits by itself
	loneWait  = 1                    // milliseconds. Go's scheduler has a processor less meanwhile
	loneYield = 5 * time.Millisecond // Go's scheduler looks after goroutines that run for 10 ms
)

// lone finds out whether a loop serves one conversation only: two descriptors in turn.
type lone struct {
	possible     bool // Go's scheduler has another processor
	last, before int32
	turns        int
	yielded      time.Time
}

func newLone() lone { return lone{possible: runtime.GOMAXPROCS(0) > 1} }

// is says whether it does.
func (o *lone) is() bool { return o.possible && o.turns >= loneTurns }

// saw notes the events of one turn.
func (o *lone) saw(events []unix.EpollEvent, now time.Time) {
	o.turns++
	for i := range events {
		if fd := events[i].Fd; fd != o.last && events[i].Pad >= 0 { // what was posted belongs to all
			if fd != o.before {
				o.turns = 0
			}
			o.last, o.before = fd, o.last
		}
	}
	if o.is() && now.Sub(o.yielded) > loneYield {
		o.yielded = now
		runtime.Gosched()
	}
}

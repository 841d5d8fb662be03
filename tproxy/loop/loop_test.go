// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newLoop(t testing.TB) *Loop {
	t.Helper()
	l, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// on calls f on the loop and waits for it.
func (l *Loop) on(f func()) {
	done := make(chan struct{})
	if l.Do(func() { f(); close(done) }) {
		<-done
	}
}

type handler func(Events)

func (h handler) Ready(e Events) { h(e) }

type flusher func()

func (f flusher) Flush() { f() }

func pair(t *testing.T) (here, there int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// TestOrder: posts run in their order, from however many goroutines.
func TestOrder(t *testing.T) {
	l := newLoop(t)
	var last [8]int
	var work sync.WaitGroup
	for g := range last {
		work.Go(func() {
			for i := 1; i <= 1000; i++ {
				l.Do(func() {
					if last[g] != i-1 {
						t.Errorf("goroutine %d: %d after %d", g, i, last[g])
					}
					last[g] = i
				})
			}
		})
	}
	work.Wait()
	l.on(func() {
		for g, n := range last {
			if n != 1000 {
				t.Errorf("goroutine %d: %d posts were run", g, n)
			}
		}
	})
}

// TestEvents: a handler hears of bytes and of the peer's end, once each, and of
// nothing once it is forgotten.
func TestEvents(t *testing.T) {
	l := newLoop(t)
	here, there := pair(t)
	heard := make(chan Events, 16)
	l.on(func() {
		if err := l.Watch(here, handler(func(e Events) { heard <- e })); err != nil {
			t.Error(err)
		}
	})
	if e := <-heard; e&Writable == 0 || e&Readable != 0 {
		t.Errorf("at first: %x", e)
	}
	if _, err := unix.Write(there, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if e := <-heard; e&Readable == 0 {
		t.Errorf("after a byte: %x", e)
	}
	if err := unix.Shutdown(there, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if e := <-heard; e&PeerClosed == 0 {
		t.Errorf("after the end: %x", e)
	}
	l.on(func() { l.Forget(here, false) })
	_ = unix.Shutdown(there, unix.SHUT_RDWR)
	l.on(func() {})
	if len(heard) > 0 {
		t.Errorf("heard %x after Forget", <-heard)
	}
}

// TestStaleEvent: an event for a descriptor whose number was given to another handler
// in the same turn isn't that handler's.
func TestStaleEvent(t *testing.T) {
	l := newLoop(t)
	here, there := pair(t)
	l.on(func() {
		if err := l.Watch(here, handler(func(Events) {})); err != nil {
			t.Error(err)
		}
		old := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(here), Pad: l.slots[here].generation}
		l.Forget(here, false)
		if err := l.Watch(here, handler(func(e Events) {
			if e&Readable != 0 {
				t.Error("heard of bytes that were there for the one before")
			}
		})); err != nil {
			t.Error(err)
		}
		l.dispatch(&old)
		l.Forget(here, false)
		l.dispatch(&old)
	})
	_ = there
}

// TestTurn: what is queued comes after posts, in order, and flushers come last.
func TestTurn(t *testing.T) {
	l := newLoop(t)
	var order []string
	note := func(what string) Func { return func() { order = append(order, what) } }
	l.on(func() {
		l.AtEnd(flusher(func() {
			note("flush")()
			l.AtEnd(flusher(note("flush of a flush")))
		}))
		l.Queue(Func(func() { note("first")(); l.Queue(note("third")) }))
		l.Queue(note("second"))
		note("post")()
	})
	l.on(func() {
		want := []string{"post", "first", "second", "third", "flush", "flush of a flush"}
		if !slices.Equal(order, want) {
			t.Errorf("order %q, want %q", order, want)
		}
	})
}

// TestLongQueue: a long queue doesn't keep a turn from its end, and all of it is run.
func TestLongQueue(t *testing.T) {
	l := newLoop(t)
	const n = 64
	ran, flushes := 0, 0
	done := make(chan struct{})
	l.Do(func() {
		for range n {
			l.Queue(Func(func() {
				for began := time.Now(); time.Since(began) < turnTime/4; {
				}
				if ran++; ran%8 == 1 {
					l.AtEnd(flusher(func() { flushes++ }))
				}
				if ran == n {
					close(done)
				}
			}))
		}
	})
	<-done
	l.on(func() {
		if flushes < n/8 {
			t.Errorf("%d turns for a queue of %d turns", flushes, n/8)
		}
	})
}

// TestManyPosts: much that is posted doesn't keep a turn from its end; all of it is called,
// in order, also when the loop is closed meanwhile.
func TestManyPosts(t *testing.T) {
	l, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const n = 64
	var order []int
	turns := 0
	ended := true // the present turn isn't counted yet
	ready := make(chan struct{})
	l.Do(func() { <-ready })
	for i := range n {
		l.Do(func() {
			for began := time.Now(); time.Since(began) < turnTime/4; {
			}
			if order = append(order, i); ended {
				ended = false
				l.AtEnd(flusher(func() { ended, turns = true, turns+1 }))
			}
		})
	}
	close(ready)
	l.Close()
	if !slices.IsSorted(order) || len(order) != n || turns < n/16 {
		t.Errorf("called %v in %d turns", order, turns)
	}
}

// TestBusy: a turn that lasts is seen from outside.
func TestBusy(t *testing.T) {
	l := newLoop(t)
	if d := l.Busy(time.Now()); d > time.Second {
		t.Errorf("a loop that waits is busy for %s", d)
	}
	in, out := make(chan struct{}), make(chan struct{})
	l.Do(func() { close(in); <-out })
	<-in
	if d := l.Busy(time.Now().Add(time.Minute)); d < time.Minute {
		t.Errorf("a turn that lasts is busy for %s", d)
	}
	close(out)
}

// TestClose: what was posted before Close is run, what comes after isn't.
func TestClose(t *testing.T) {
	l, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for range 100 {
		l.Do(func() { ran++ })
	}
	l.Close()
	if ran != 100 || l.Do(func() { t.Error("run after Close") }) {
		t.Errorf("%d of 100 were run", ran)
	}
}

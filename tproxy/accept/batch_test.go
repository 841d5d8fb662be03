// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"
)

func listenTCP(t *testing.T) *TCP {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewTCP(ln)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dial(t *testing.T, ln *TCP) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestAcceptAll: what waits comes in one call as far as it fits, as descriptors that
// don't block and aren't inherited by children.
func TestAcceptAll(t *testing.T) {
	ln := listenTCP(t)
	const calls = batchSize + 3
	for range calls {
		dial(t, ln)
	}
	got := 0
	for _, want := range []int{batchSize, 3} {
		n := 0
		if err := ln.AcceptAll(func(fd int) {
			n++
			status, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			flags, err2 := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			if errors.Join(err, err2) != nil || status&unix.O_NONBLOCK == 0 || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("descriptor %d: flags %#x and %#x, %v", fd, status, flags, errors.Join(err, err2))
			}
			_ = unix.Close(fd)
		}); err != nil {
			t.Fatal(err)
		}
		if n != want {
			t.Errorf("a batch of %d, want %d", n, want)
		}
		got += n
	}
	if got != calls {
		t.Errorf("%d of %d connections", got, calls)
	}
}

// TestBatchEndsWithContext, while it waits; the port is closed then. handle may end it.
func TestBatchEndsWithContext(t *testing.T) {
	for _, waiting := range []bool{true, false} {
		ln := listenTCP(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended, handled := make(chan error, 1), make(chan struct{}, 1)
		go func() {
			ended <- Batch(ctx, ln, func(fd int) {
				_ = unix.Close(fd)
				if !waiting {
					_ = ln.Close()
					cancel()
				}
				handled <- struct{}{}
			})
		}()
		dial(t, ln)
		<-handled
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
		if c, err := net.Dial("tcp", ln.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the port is still open: %v, %v", c, err)
		}
	}
}

// TestBatchReturnsOtherErrors: of a socket that others have closed (ss -K).
func TestBatchReturnsOtherErrors(t *testing.T) {
	ln := listenTCP(t)
	raw, err := ln.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- Batch(t.Context(), ln, func(int) {}) }()
	if e := raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_RDWR) }); errors.Join(e, err) != nil {
		t.Fatal(e, err)
	}
	if err := <-ended; !errors.Is(err, syscall.EINVAL) {
		t.Errorf("ended with %v", err)
	}
}

// short is a Listener that lacks something for a while.
type short struct {
	*fakeListener
	err error
}

func (s short) AcceptAll(take func(int)) error {
	if s.failures != 0 {
		s.failures--
		return s.err
	}
	take(7)
	<-s.closed
	return net.ErrClosed
}

// TestBatchSurvives a shortage that passes, as Loop does.
func TestBatchSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		handled := 0
		err := Batch(ctx, short{newFakeListener(nil, 3), syscall.EMFILE}, func(fd int) {
			handled++
			cancel()
		})
		if err != nil || handled != 1 {
			t.Errorf("handled %d connections and ended with %v, want 1 and nil", handled, err)
		}
	})
}

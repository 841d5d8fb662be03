// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fakeListener fails as often as asked, then accepts one connection, and from
// then on blocks until it is closed.
type fakeListener struct {
	err      error
	failures int // -1: for ever
	accepted bool
	calls    int
	once     sync.Once
	closed   chan struct{}
}

func newFakeListener(err error, failures int) *fakeListener {
	return &fakeListener{err: err, failures: failures, closed: make(chan struct{})}
}

func (f *fakeListener) Accept() (net.Conn, error) {
	f.calls++
	if f.failures != 0 {
		f.failures--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", f.err)}
	}
	if !f.accepted {
		f.accepted = true
		conn, other := net.Pipe()
		return conn, other.Close()
	}
	<-f.closed
	return nil, net.ErrClosed
}

func (f *fakeListener) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

func (*fakeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7947} }

// TestLoopSurvives: three failures, then a connection, which is handled.
func TestLoopSurvives(t *testing.T) {
	for _, errno := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EINTR, syscall.ECONNABORTED,
		syscall.EPROTO, syscall.ENETDOWN, syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.ENONET,
		syscall.EHOSTUNREACH, syscall.EOPNOTSUPP, syscall.ENETUNREACH,
	} {
		t.Run(errno.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				ln := newFakeListener(errno, 3)
				handled := 0
				err := Loop(ctx, ln, func(conn net.Conn) {
					handled++
					_ = conn.Close()
					cancel()
				})
				if err != nil || handled != 1 {
					t.Errorf("handled %d connections and ended with %v, want 1 and nil", handled, err)
				}
			})
		})
	}
}

// TestLoopReturnsOtherErrors: with the listener's address, and closed.
func TestLoopReturnsOtherErrors(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EBADF, syscall.EINVAL, syscall.EFAULT, syscall.ENOTSOCK, syscall.EPERM} {
		ln := newFakeListener(errno, -1)
		err := Loop(t.Context(), ln, func(net.Conn) { t.Error("a connection came from nowhere") })
		if !errors.Is(err, errno) || !strings.Contains(err.Error(), "127.0.0.1:7947") {
			t.Errorf("%v: ended with %v, want the error and the address", errno, err)
		}
		select {
		case <-ln.closed:
		default:
			t.Errorf("%v: the listener is still open", errno)
		}
	}
}

// TestLoopPauses: a shortage that lasts costs at most a thousand calls in
// ten seconds, and doesn't delay the end of ctx. Time is synctest's.
func TestLoopPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		ln := newFakeListener(syscall.EMFILE, -1)
		begin := time.Now()
		if err := Loop(ctx, ln, func(net.Conn) {}); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("ended after %s, want 10s", took)
		}
		if ln.calls < 100 || ln.calls > 1000 {
			t.Errorf("%d calls of accept in 10 s, want 100 to 1000", ln.calls)
		}
	})
}

// TestLoopEndsWithContext, while accept blocks.
func TestLoopEndsWithContext(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Loop(ctx, ln, func(net.Conn) {}) }()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept on the listener gives %v, want closed", err)
	}
}

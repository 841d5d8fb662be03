// SPDX-License-Identifier: Apache-2.0

package listen_test

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
	"tacit/redirect/listen"
)

func listenLoopback() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// reopeningTest is a reopening listener in use: what it accepts, how it ended.
type reopeningTest struct {
	*listen.Reopening
	accepted chan net.Conn
	ended    chan error
}

func startReopening(t *testing.T, first net.Listener, open func() (net.Listener, error), report func(error)) reopeningTest {
	t.Helper()
	l := reopeningTest{listen.NewReopening(first, open, report), make(chan net.Conn, 1), make(chan error, 1)}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				l.ended <- err
				return
			}
			l.accepted <- conn
		}
	}()
	return l
}

// calls proves that the listener accepts at its present address.
func (l reopeningTest) calls(t *testing.T) {
	t.Helper()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	_ = (<-l.accepted).Close()
}

// closes ends the listener and wants Accept to say so.
func (l reopeningTest) closes(t *testing.T) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-l.ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ended with %v, want closed", err)
	}
}

// moved waits until the listener has another socket than first.
func (l reopeningTest) moved(t *testing.T, first net.Listener) {
	t.Helper()
	testhost.Eventually(t, 10*time.Second, "another socket", func() error {
		if l.Addr().String() == first.Addr().String() {
			return errors.New("still the old one")
		}
		return nil
	})
}

// shut does to a listening socket what ss -K does.
func shut(t *testing.T, ln net.Listener) {
	t.Helper()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if bad := raw.Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }); errors.Join(bad, err) != nil {
		t.Fatal(bad, err)
	}
}

// TestReopeningOpensAgain: the first attempt fails and is reported, the second succeeds.
func TestReopeningOpensAgain(t *testing.T) {
	first, err := listenLoopback()
	if err != nil {
		t.Fatal(err)
	}
	tries, reported := 0, make(chan error, 8)
	taken := errors.New("the port is in use")
	l := startReopening(t, first, func() (net.Listener, error) {
		if tries++; tries == 1 {
			return nil, taken
		}
		return listenLoopback()
	}, func(err error) { reported <- err })
	shut(t, first)
	for _, want := range []error{taken, nil} {
		if got := <-reported; !errors.Is(got, want) {
			t.Errorf("reported %v, want %v", got, want)
		}
	}
	l.moved(t, first)
	l.calls(t)
	l.closes(t)
}

// TestReopeningAcceptAll: descriptors come from each socket in turn: the first, the one
// opened after others closed it, and the one that replaced that.
func TestReopeningAcceptAll(t *testing.T) {
	first, err := listenLoopback()
	testhost.Must(t, err)
	l := listen.NewReopening(first, listenLoopback, func(err error) {
		if err != nil {
			t.Errorf("reported %v", err)
		}
	})
	accepted, ended := make(chan int), make(chan error, 1)
	go func() {
		for {
			if err := l.AcceptAll(func(fd int) { accepted <- fd }); err != nil {
				ended <- err
				return
			}
		}
	}()
	calls := func() {
		t.Helper()
		conn, err := net.Dial("tcp", l.Addr().String())
		testhost.Must(t, err)
		testhost.Must(t, syscall.Close(<-accepted))
		testhost.Must(t, conn.Close())
	}
	calls()
	shut(t, first)
	reopeningTest{Reopening: l}.moved(t, first)
	calls()
	old := l.Addr().String()
	testhost.Must(t, l.Replace())
	calls()
	testhost.Must(t, l.Close())
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("AcceptAll ended with %v, want closed", err)
	}
	for _, addr := range []string{old, l.Addr().String()} {
		if conn, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s still listens: %v, %v", addr, conn, err)
		}
	}
}

// TestReopeningReplace: another socket takes over, and nothing is reported.
func TestReopeningReplace(t *testing.T) {
	first, err := listenLoopback()
	if err != nil {
		t.Fatal(err)
	}
	l := startReopening(t, first, listenLoopback, func(err error) { t.Errorf("reported %v", err) })
	if err := l.Replace(); err != nil {
		t.Fatal(err)
	}
	l.moved(t, first)
	l.calls(t)
	l.closes(t)
}

// TestReopeningCloses, also while it tries in vain to open again; nothing is reported after Close.
func TestReopeningCloses(t *testing.T) {
	first, err := listenLoopback()
	if err != nil {
		t.Fatal(err)
	}
	reported := make(chan error, 64)
	l := startReopening(t, first, func() (net.Listener, error) { return nil, errors.New("never") }, func(err error) { reported <- err })
	shut(t, first)
	if <-reported == nil {
		t.Error("reported success")
	}
	_ = l.Close() // the socket is closed already
	if err := <-l.ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ended with %v, want closed", err)
	}
	for len(reported) > 0 {
		<-reported
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept gives %v, want closed", err)
	}
	if len(reported) > 0 {
		t.Errorf("reported %v after Close", <-reported)
	}
}

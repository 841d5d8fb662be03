// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestLasting: a listener that others have shut is opened again, and one that
// its owner has closed isn't.
func TestLasting(t *testing.T) {
	open := func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
	first, err := open()
	if err != nil {
		t.Fatal(err)
	}
	tries := 0
	reported := make(chan error, 8)
	l := newLasting(first, func() (net.Listener, error) {
		if tries++; tries == 1 {
			return nil, errors.New("the port is another's")
		}
		return open()
	}, func(err error) { reported <- err })
	ended := make(chan error, 1)
	accepted := make(chan net.Conn, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- conn
		}
	}()
	raw, err := first.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{false, true} {
		select {
		case err := <-reported:
			if (err == nil) != want {
				t.Errorf("reported %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the listener wasn't opened again")
		}
	}
	testhost.Eventually(t, 10*time.Second, "another listener", func() error {
		if l.Addr().String() == first.Addr().String() {
			return errors.New("still the old one")
		}
		return nil
	})
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = (<-accepted).Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("ended with %v", err)
	}
}

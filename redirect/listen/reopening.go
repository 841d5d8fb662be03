// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"tacit/tproxy/accept"
)

// reopenInterval is the pause between two attempts to open a listener again.
const reopenInterval = 200 * time.Millisecond

// Reopening is a listener that opens itself again when another program has closed its socket: sock_diag lets root destroy
// any socket (ss -K), listening ones included. It is safe for concurrent use.
type Reopening struct {
	open   func() (net.Listener, error)
	report func(error)

	mu     sync.Mutex // guards the fields below, and calls of report
	now    net.Listener
	closed chan struct{}
}

// NewReopening keeps now open until Close. Open makes its successor. Report is called after each attempt to open one
// that was closed by others, with nil when it listens again; it must not call the listener, and isn't called after Close.
func NewReopening(now net.Listener, open func() (net.Listener, error), report func(error)) *Reopening {
	return &Reopening{open: open, report: report, now: now, closed: make(chan struct{})}
}

// Accept returns an error where the listener was closed by Close, and where accept fails on a socket that still listens.
func (l *Reopening) Accept() (conn net.Conn, err error) {
	err = l.repeat(func(now net.Listener) (err error) {
		conn, err = now.Accept()
		return err
	})
	return conn, err
}

// AcceptAll is accept.Listener's, with the errors of Accept. The sockets must be TCP ones.
func (l *Reopening) AcceptAll(take func(fd int)) error {
	return l.repeat(func(now net.Listener) error {
		all, err := l.batching(now)
		if err != nil {
			return err
		}
		return all.AcceptAll(take)
	})
}

// batching makes the present socket one that accepts descriptors, too, and closes with all that this takes.
func (l *Reopening) batching(now net.Listener) (accept.Listener, error) {
	if all, ok := now.(accept.Listener); ok {
		return all, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	tcp, ok := now.(*net.TCPListener)
	if !ok || l.now != now { // with another one, it is closed
		return nil, fmt.Errorf("accept descriptors on %s: %w", now.Addr(), net.ErrClosed)
	}
	all, err := accept.NewTCP(tcp)
	if err == nil {
		l.now = all
	}
	return all, err
}

// repeat accepts from the present socket, and from its successor where it was closed by others.
func (l *Reopening) repeat(accept func(net.Listener) error) error {
	for {
		now := l.current()
		err := accept(now)
		switch {
		case err == nil:
			return nil
		case l.current() != now: // Replace was called
		case !errors.Is(err, syscall.EINVAL): // a socket that doesn't listen gives EINVAL, accept(2)
			return err
		case !l.reopen():
			return net.ErrClosed
		}
	}
}

// Replace opens another socket and closes the present one, which may still listen.
func (l *Reopening) Replace() error {
	fresh, err := l.open()
	if err != nil {
		return err
	}
	old := l.current()
	l.take(fresh)
	return old.Close()
}

// Addr is the present socket's address.
func (l *Reopening) Addr() net.Addr { return l.current().Addr() }

// Close ends Accept for good.
func (l *Reopening) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isClosed() {
		close(l.closed)
	}
	return l.now.Close()
}

// Socket is the present socket.
func (l *Reopening) Socket() (syscall.Conn, bool) {
	socket, ok := l.current().(syscall.Conn)
	return socket, ok
}

func (l *Reopening) current() net.Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *Reopening) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// reopen tries until there is a socket again; false when Close was called.
func (l *Reopening) reopen() bool {
	_ = l.current().Close() // frees the descriptor; the socket is gone already
	for {
		fresh, err := l.open()
		if open := l.tell(err); err == nil {
			return l.take(fresh)
		} else if !open {
			return false
		}
		select {
		case <-l.closed:
			return false
		case <-time.After(reopenInterval):
		}
	}
}

// tell reports an attempt, unless the listener has been closed.
func (l *Reopening) tell(err error) (open bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		return false
	}
	l.report(err)
	return true
}

// take makes fresh the present socket; after Close it closes it and returns false.
func (l *Reopening) take(fresh net.Listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		_ = fresh.Close()
		return false
	}
	l.now = fresh
	return true
}

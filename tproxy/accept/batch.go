// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// batchSize bounds how long the first connection of a batch waits for the others.
const batchSize = 64

type listener interface {
	Addr() net.Addr
	Close() error
}

// Listener accepts connections as descriptors: non-blocking, close-on-exec, and
// unknown to the runtime's poller, so that an event loop can own them.
type Listener interface {
	listener
	// AcceptAll waits for a connection and calls take for each that is there by then,
	// at most some dozens. take owns the descriptor. An error comes after the
	// connections that were accepted before it.
	AcceptAll(take func(fd int)) error
}

// TCP is a Listener. Only its own descriptors are in the runtime's poller.
type TCP struct {
	*net.TCPListener
	file *os.File // the same socket: package net doesn't let a listener's RawConn wait
}

// NewTCP takes a listener over.
func NewTCP(ln *net.TCPListener) (*TCP, error) {
	file, err := ln.File()
	return &TCP{ln, file}, err
}

// Close also ends AcceptAll.
func (l *TCP) Close() error { return errors.Join(l.TCPListener.Close(), l.file.Close()) }

// AcceptAll is Listener's. take is called without a lock on the listener, so it may
// close it.
func (l *TCP) AcceptAll(take func(fd int)) error {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return err
	}
	var fds [batchSize]int
	var n int
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, failed = acceptNow(int(fd), fds[:])
		return n > 0 || failed != nil
	})
	for _, fd := range fds[:n] {
		take(fd)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", net.ErrClosed, err) // the file's error doesn't say so
	}
	return failed
}

// acceptNow accepts without waiting, until nothing is left or into is full.
func acceptNow(ln int, into []int) (n int, err error) {
	for n < len(into) {
		// unix.Accept4 would make an address that nobody asks for
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(ln), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			into[n] = int(fd)
			n++
		case unix.EINTR, unix.ECONNABORTED: // the next one may be well
		case unix.EAGAIN:
			return n, nil
		default:
			return n, os.NewSyscallError("accept4", errno)
		}
	}
	return n, nil
}

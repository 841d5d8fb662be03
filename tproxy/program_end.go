// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tacit/policy"
	"tacit/tproxy/lane"
	"tacit/tproxy/socket"
)

// programEnd is the end of a stream that is a program's socket.
type programEnd struct {
	conn   *net.TCPConn
	raw    syscall.RawConn
	blocks *lane.Blocks
	gone   atomic.Bool // closed or reset here

	// Used by the reader only: the result of the last attempt. attempt is the
	// method value of tryRead, made once to save an allocation per read.
	attempt func(fd uintptr) bool
	eof     bool
	got     *lane.Block
	n       int
	err     error
	late    error // the error of firstBytes, for Read to return
}

// newProgramEnd takes conn over. Until Close, the kernel ends conn with a reset if
// this process dies: FIN would tell the program that what it got is complete.
func newProgramEnd(conn *net.TCPConn, blocks *lane.Blocks) (*programEnd, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	_ = conn.SetLinger(0)
	e := &programEnd{conn: conn, raw: raw, blocks: blocks}
	e.attempt = e.tryRead
	return e, nil
}

// Read takes a block from the pool only when there are bytes to read, so that
// idle connections hold none.
func (e *programEnd) Read() (*lane.Block, int, error) {
	e.got, e.n, e.err = nil, 0, nil
	if e.late != nil {
		return nil, 0, e.late
	}
	if err := e.raw.Read(e.attempt); err != nil {
		e.err = err
	}
	if errors.Is(e.err, os.ErrDeadlineExceeded) {
		e.err = lane.ErrWoken
	}
	return e.got, e.n, e.err
}

// tryRead reads once without waiting; false: there is nothing to read yet. After
// FIN only a reset can come, which the kernel reports as the socket's error.
func (e *programEnd) tryRead(fd uintptr) bool {
	if e.eof {
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = syscall.Errno(code)
		}
		e.err = err
		return err != nil
	}
	b := e.blocks.Get()
	n, err := readNow(int(fd), b.Payload())
	if err == nil && n > 0 {
		e.got, e.n = b, n
		return true
	}
	e.blocks.Put(b)
	if err == nil {
		e.eof, err = true, io.EOF
	}
	e.err = err
	if errors.Is(err, unix.EAGAIN) {
		e.err = nil
		return false
	}
	return true
}

func readNow(fd int, into []byte) (int, error) {
	for {
		n, err := unix.Read(fd, into)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// firstBytes reads what has arrived so far, without waiting. It keeps an error for
// Read: the kernel reports a reset only once.
func (e *programEnd) firstBytes(into []byte) int {
	var n int
	var err error
	if e := e.raw.Control(func(fd uintptr) { n, err = readNow(int(fd), into) }); e != nil {
		err = e
	}
	if err != nil && err != unix.EAGAIN {
		e.late = err
	}
	return max(n, 0)
}

func (e *programEnd) Write(b *lane.Block, n int) error {
	_, err := e.conn.Write(b.Payload()[:n])
	return err
}

func (e *programEnd) CloseWrite() error { return e.conn.CloseWrite() }

func (e *programEnd) Wake() { _ = e.conn.SetReadDeadline(time.Unix(1, 0)) }

func (e *programEnd) Interrupt() {
	if e.gone.CompareAndSwap(false, true) {
		socket.Reset(e.conn)
	}
}

func (e *programEnd) Reset(policy.Reason) { e.Interrupt() }

func (e *programEnd) Dead() bool { return socket.Closed(e.raw) }

func (e *programEnd) Close() {
	if e.gone.CompareAndSwap(false, true) {
		_ = e.conn.SetLinger(-1)
		_ = e.conn.Close()
	}
}

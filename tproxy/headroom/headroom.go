// SPDX-License-Identifier: Apache-2.0

// Package headroom keeps connections from taking the descriptors and the memory
// that the rest of the daemon needs: those who ask it how it is, gossip, and the
// looks at the host. Whoever makes or accepts a connection asks here before
// anything else is done with it. The package must not accept or close anything.
package headroom

import (
	"fmt"
	"math"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Headroom is safe for concurrent use. The nil Headroom admits all.
//
// It counts nothing: the kernel gives each new descriptor the lowest free number,
// so the number says how many were open.
type Headroom struct {
	memory  func() error
	limit   func() uint64 // of descriptors; it may change at any time
	refused atomic.Uint64
}

// New returns a headroom. memory is asked for each connection, and returns an error
// while no more memory may be used.
func New(memory func() error) *Headroom {
	return &Headroom{memory: memory, limit: Limit}
}

// Limit is how many descriptors this process may open now.
func Limit() uint64 {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil { // it can't fail
		return 0
	}
	return min(l.Cur, math.MaxInt32)
}

// mostKept is how many descriptors are kept free of connections where that is less
// than a quarter of all.
const mostKept = 256

// Kept is how many of limit descriptors are kept free of the connections of programs.
// Lanes may take the first half of them: without a lane, a connection is of no use.
func Kept(limit uint64) uint64 { return min(limit/4, mostKept) }

// Connection returns why the connection of a program with this descriptor must be
// refused; nil: it may go on. The error is one of package shortage.
func (h *Headroom) Connection(fd int) error {
	if h == nil {
		return nil
	}
	limit := h.limit()
	return h.admit(fd, limit-Kept(limit))
}

// Lane is Connection for a connection to or from another node.
func (h *Headroom) Lane(fd int) error {
	if h == nil {
		return nil
	}
	limit := h.limit()
	return h.admit(fd, limit-Kept(limit)/2)
}

// Share is how many descriptors the streams that one other node has opened may take:
// three quarters of what connections may, so that it can't shut out all others.
func (h *Headroom) Share() int {
	if h == nil {
		return math.MaxInt
	}
	limit := h.limit()
	return int((limit - Kept(limit)) / 4 * 3)
}

func (h *Headroom) admit(fd int, most uint64) error {
	err := h.memory()
	if fd < 0 || uint64(fd) >= most {
		err = fmt.Errorf("connections use all %d descriptors that they may: raise LimitNOFILE: %w", most, syscall.EMFILE)
	}
	if err != nil {
		h.refused.Add(1)
	}
	return err
}

// Refused is how many connections were refused.
func (h *Headroom) Refused() uint64 { return h.refused.Load() }

// Of asks for the descriptor of a connection, which must be open.
func Of(conn syscall.Conn, ask func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return Control(ask)("", "", raw)
}

// Control is net.Dialer.Control: the socket is refused before it connects.
func Control(ask func(fd int) error) func(_, _ string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var no error
		if err := raw.Control(func(fd uintptr) { no = ask(int(fd)) }); err != nil {
			return err
		}
		return no
	}
}

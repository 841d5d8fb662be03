// SPDX-License-Identifier: Apache-2.0

// Package socket has TCP sockets as event loops use them: non-blocking descriptors
// that Go's own poller doesn't know. It must not wait, nor keep what it reads.
package socket

import (
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn is what event loops need of a connection. No method waits: reads and writes
// return EAGAIN, or fewer bytes than there was room for. A read of 0 bytes without
// an error is the peer's FIN.
type Conn interface {
	FD() int
	Readv(into [][]byte) (int, error)
	Writev(from [][]byte) (int, error)
	CloseWrite() error
	// Close closes the connection; with FIN, or with RST, which also ends it where
	// this process dies before.
	Close()
	Reset()
	// Err takes the pending error: of a connect() that has ended, or of a connection
	// that broke.
	Err() error
	// Connected says whether connect() has succeeded.
	Connected() bool
	// Local is the address of this end.
	Local() netip.AddrPort
	// Unacked is how many bytes were written that the other end's kernel hasn't
	// acknowledged.
	Unacked() int
	// Path says what the kernel has seen of the way to the other end.
	Path() Path
}

// Path is what the kernel has seen of the way to the other end, from TCP_INFO of tcp(7).
type Path struct {
	Trip      time.Duration // there and back, at best
	Sent      uint32        // segments with data
	Again     uint32        // of them, those that were sent again
	Received  uint32        // segments with data
	OutOfTurn uint32        // of them, those that came while an earlier one was missing
}

// Socket is a descriptor.
type Socket struct{ fd int }

// New takes a descriptor over. Until Close, the kernel ends the connection with a
// reset if this process dies: FIN would say that what was sent is complete.
func New(fd int) Socket {
	linger(fd, true)
	return Socket{fd}
}

// Take makes a Socket of a connection and leaves conn closed: its descriptor is
// copied, since Go's poller would be told of its events for ever.
func Take(conn *net.TCPConn) (Socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Socket{}, err
	}
	fd := -1
	if e := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		err = e
	}
	if err != nil {
		return Socket{}, err
	}
	_ = conn.Close()
	return New(fd), nil
}

// FD is the descriptor's number.
func (s Socket) FD() int { return s.fd }

// MaxParts is how many parts one call reads or writes.
const MaxParts = 32

// Readv reads into the parts in their order.
func (s Socket) Readv(into [][]byte) (int, error) {
	return s.vector(unix.SYS_READ, unix.SYS_READV, into)
}

// Writev writes the parts in their order, at most the first 32.
func (s Socket) Writev(from [][]byte) (int, error) {
	return s.vector(unix.SYS_WRITE, unix.SYS_WRITEV, from)
}

// vector makes one system call. It doesn't tell Go's scheduler: the call never waits.
func (s Socket) vector(one, many uintptr, parts [][]byte) (int, error) {
	if len(parts) == 1 {
		b := parts[0]
		n, _, errno := unix.RawSyscall(one, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		return result(n, errno)
	}
	var vectors [MaxParts]unix.Iovec
	k := 0
	for _, b := range parts[:min(len(parts), MaxParts)] {
		if len(b) > 0 {
			vectors[k].Base = &b[0]
			vectors[k].SetLen(len(b))
			k++
		}
	}
	n, _, errno := unix.RawSyscall(many, uintptr(s.fd), uintptr(unsafe.Pointer(&vectors[0])), uintptr(k))
	return result(n, errno)
}

// result treats an interrupted call as one that would have waited for nothing: the
// kernel doesn't interrupt calls on non-blocking sockets.
func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// CloseWrite sends FIN.
func (s Socket) CloseWrite() error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(s.fd), unix.SHUT_WR, 0); errno != 0 {
		return errno
	}
	return nil
}

// Close closes the connection in an orderly way.
func (s Socket) Close() {
	linger(s.fd, false)
	Close(s.fd)
}

// Reset closes the connection with RST; unsent bytes are lost.
func (s Socket) Reset() {
	linger(s.fd, true)
	Close(s.fd)
}

// Connected says whether connect() has succeeded.
func (s Socket) Connected() bool {
	var raw unix.RawSockaddrInet6
	size := uint32(unix.SizeofSockaddrInet6)
	_, _, errno := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(s.fd), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)))
	return errno == 0
}

// Err takes the pending error, SO_ERROR of socket(7).
func (s Socket) Err() error { return Error(s.fd) }

// Unacked is SIOCOUTQ of tcp(7).
func (s Socket) Unacked() int {
	n, err := unix.IoctlGetInt(s.fd, unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// Path reads TCP_INFO.
func (s Socket) Path() Path {
	i, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return Path{}
	}
	return Path{time.Duration(i.Min_rtt) * time.Microsecond, i.Data_segs_out, i.Total_retrans, i.Data_segs_in, i.Rcv_ooopack}
}

// linger has close() send RST rather than FIN, SO_LINGER of socket(7).
func linger(fd int, on bool) {
	l := unix.Linger{}
	if on {
		l.Onoff = 1
	}
	_ = set(fd, unix.SOL_SOCKET, unix.SO_LINGER, unsafe.Pointer(&l), unsafe.Sizeof(l))
}

// Peer is the address of the other end; the zero value if there is none.
func (s Socket) Peer() netip.AddrPort {
	at, _ := Remote(s.fd)
	return at
}

// Local is the address of this end.
func (s Socket) Local() netip.AddrPort {
	at, _ := Local(s.fd)
	return at
}

// unsentLimit is how many bytes of a connection between nodes the kernel holds that it
// hasn't sent: what is urgent waits behind no more than these.
const unsentLimit = 256 << 10

// Prepare sets what a connection between nodes needs: small writes go at once, the
// kernel holds few unsent bytes, and notices within 5 s that an idle peer is gone.
func (s Socket) Prepare() error {
	for _, o := range []struct{ level, option, value int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 2},  // seconds
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1}, // second
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
	} {
		if err := unix.SetsockoptInt(s.fd, o.level, o.option, o.value); err != nil {
			return err
		}
	}
	return nil
}

// Reset closes a connection of Go's with RST; unsent bytes are lost.
func Reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

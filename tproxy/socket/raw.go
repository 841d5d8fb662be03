// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What follows are system calls that never wait, of which Go's scheduler isn't told. Each
// that it is told of wakes the runtime's monitor, which then costs more than the call.

// Make makes a non-blocking socket of plain TCP for an address; net.Dial's may be MPTCP.
func Make(to netip.Addr) (fd int, err error) {
	family := uintptr(unix.AF_INET6)
	if to.Unmap().Is4() {
		family = unix.AF_INET
	}
	r, _, errno := unix.RawSyscall(unix.SYS_SOCKET, family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if errno != 0 {
		return -1, os.NewSyscallError("socket", errno)
	}
	return int(r), nil
}

// Bind gives a socket its own address; the kernel finds a port.
func Bind(fd int, at netip.Addr) error {
	raw, size := sockaddr(netip.AddrPortFrom(at, 0))
	_, _, errno := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&raw)), size)
	if errno != 0 {
		return os.NewSyscallError("bind", errno)
	}
	return nil
}

// Connect begins to connect a non-blocking socket.
func Connect(fd int, to netip.AddrPort) error {
	raw, size := sockaddr(to)
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&raw)), size)
	if errno != 0 && errno != unix.EINPROGRESS {
		return os.NewSyscallError("connect", errno)
	}
	return nil
}

// sockaddr is an address as the kernel reads it.
func sockaddr(at netip.AddrPort) (raw unix.RawSockaddrInet6, size uintptr) {
	if v4 := at.Addr().Unmap(); v4.Is4() {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&raw)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: hostOrder(at.Port()), Addr: v4.As4()}
		return raw, unix.SizeofSockaddrInet4
	}
	return unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: hostOrder(at.Port()), Addr: at.Addr().As16()}, unix.SizeofSockaddrInet6
}

// Set is setsockopt(2) with a number.
func Set(fd, level, name, value int) error {
	n := int32(value)
	return set(fd, level, name, unsafe.Pointer(&n), unsafe.Sizeof(n))
}

func set(fd, level, name int, value unsafe.Pointer, size uintptr) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(value), size, 0)
	if errno != 0 {
		return os.NewSyscallError("setsockopt", errno)
	}
	return nil
}

// Error takes the pending error of a socket, SO_ERROR of socket(7).
func Error(fd int) error {
	var code int32
	size := uint32(unsafe.Sizeof(code))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR, uintptr(unsafe.Pointer(&code)), uintptr(unsafe.Pointer(&size)), 0)
	switch {
	case errno != 0:
		return errno
	case code != 0:
		return syscall.Errno(code)
	}
	return nil
}

// Close closes a socket, with FIN unless SO_LINGER says otherwise.
func Close(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

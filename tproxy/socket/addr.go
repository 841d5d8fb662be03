// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Local is the connection's own address; an IPv4-mapped one as IPv4.
func Local(fd int) (netip.AddrPort, error) {
	var raw unix.RawSockaddrInet6 // the larger one
	size := uint32(unix.SizeofSockaddrInet6)
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size))) // x/sys makes an object of each answer
	return address("getsockname", &raw, errno)
}

// Remote is the peer's address, as Local. It is known of a connection that was reset,
// too, of which getpeername(2) says nothing.
func Remote(fd int) (netip.AddrPort, error) {
	var raw unix.RawSockaddrInet6
	errno := peerName(fd, &raw, unix.SizeofSockaddrInet4) // the kernel refuses more than there is
	if errno == 0 && raw.Family == unix.AF_INET6 {
		errno = peerName(fd, &raw, unix.SizeofSockaddrInet6)
	}
	return address("getsockopt", &raw, errno)
}

func peerName(fd int, raw *unix.RawSockaddrInet6, size uint32) syscall.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERNAME,
		uintptr(unsafe.Pointer(raw)), uintptr(unsafe.Pointer(&size)), 0)
	return errno
}

func address(call string, raw *unix.RawSockaddrInet6, errno syscall.Errno) (netip.AddrPort, error) {
	if errno != 0 {
		return netip.AddrPort{}, os.NewSyscallError(call, errno)
	}
	switch raw.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), hostOrder(v4.Port)), nil
	case unix.AF_INET6:
		addr := netip.AddrFrom16(raw.Addr).Unmap()
		if raw.Scope_id != 0 {
			addr = addr.WithZone(strconv.FormatUint(uint64(raw.Scope_id), 10))
		}
		return netip.AddrPortFrom(addr, hostOrder(raw.Port)), nil
	}
	return netip.AddrPort{}, os.NewSyscallError(call, unix.EAFNOSUPPORT)
}

// hostOrder is a port that the kernel has written in network order.
func hostOrder(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

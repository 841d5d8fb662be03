// SPDX-License-Identifier: Apache-2.0

package links

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrShared says that more than one guest can send through an interface, so that it doesn't identify the sender.
var ErrShared = errors.New("it is a port of a bridge, and every host on that bridge could pass for the guest; give the guest an interface of its own with a route to it")

// Interface returns the index of the interface of that name, which must lead to one guest alone: [ErrShared].
func Interface(name string) (index uint32, err error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	if l.Type() == "bridge" || l.Attrs().MasterIndex != 0 {
		return 0, fmt.Errorf("interface %s: %w", name, ErrShared)
	}
	return uint32(l.Attrs().Index), nil
}

// InterfacesTo returns the indices of this namespace's interfaces whose other end is in the network namespace at path.
// Ports of a bridge are left out without an error, since the hooks may identify the programs in that namespace.
func InterfacesTo(path string) (list []uint32, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	links, err := dump(netlink.LinkList) // before GetNetNsIdByFd: listing gives the namespaces at the other ends their IDs
	if err != nil {
		return nil, fmt.Errorf("read this host's interfaces: %w", err)
	}
	id, err := netlink.GetNetNsIdByFd(int(f.Fd()))
	if err != nil || id < 0 {
		return nil, err // no interface leads there
	}
	for _, l := range links {
		if l.Type() == "veth" && l.Attrs().NetNsID == id && l.Attrs().MasterIndex == 0 {
			list = append(list, uint32(l.Attrs().Index))
		}
	}
	return list, nil
}

// Ingress returns the index of the interface on which the handshake of the accepted TCP connection fd arrived.
// Source: ip(7), IP_PKTOPTIONS; ipv6(7), IPV6_PKTINFO; a TCP socket keeps what the handshake's packets had.
func Ingress(fd int, v6 bool) (uint32, error) {
	level, receive, options := unix.SOL_IP, unix.IP_PKTINFO, unix.IP_PKTOPTIONS
	if v6 {
		level, receive, options = unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, unix.IPV6_2292PKTOPTIONS
	}
	if err := unix.SetsockoptInt(fd, level, receive, 1); err != nil {
		return 0, fmt.Errorf("ask for the interface of a connection: %w", err)
	}
	buf := make([]byte, 256)
	size := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(options),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0) // x/sys has no function for this option
	if errno != 0 {
		return 0, fmt.Errorf("interface of a connection: %w", errno)
	}
	return parseIngress(buf[:size])
}

// parseIngress finds struct in_pktinfo, which begins with the index, or struct in6_pktinfo, which ends with it.
func parseIngress(b []byte) (uint32, error) {
	messages, err := unix.ParseSocketControlMessage(b)
	if err != nil {
		return 0, fmt.Errorf("interface of a connection: %w", err)
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return binary.NativeEndian.Uint32(m.Data), nil
		case m.Header.Level == unix.SOL_IPV6 && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return binary.NativeEndian.Uint32(m.Data[16:]), nil
		}
	}
	return 0, errors.New("interface of a connection: the kernel reports none")
}

// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// netnsCookie returns the cookie of the calling thread's network namespace, the
// same as bpf_get_netns_cookie.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("cookie of the network namespace: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("cookie of the network namespace: %w", err)
	}
	return cookie, nil
}

// The programs keep addresses in network order, IPv4 as ::ffff:a.b.c.d.

func toAddress(a netip.Addr) meshAddress {
	b := a.As16()
	var out meshAddress
	for i := range out.Word {
		out.Word[i] = native(b[4*i : 4*i+4])
	}
	return out
}

func fromAddress(a meshAddress) netip.Addr {
	var b [16]byte
	for i, w := range a.Word {
		putNative(b[4*i:4*i+4], w)
	}
	return netip.AddrFrom16(b).Unmap()
}

func toEndpoint(a netip.AddrPort) meshEndpoint {
	if !a.IsValid() {
		return meshEndpoint{}
	}
	return meshEndpoint{Addr: toAddress(a.Addr()), Port: swap(a.Port())}
}

func fromEndpoint(e meshEndpoint) netip.AddrPort {
	if e.Port == 0 && e.Addr == (meshAddress{}) {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(fromAddress(e.Addr), swap(e.Port))
}

func range4(p netip.Prefix) (base, mask uint32) {
	b := p.Masked().Addr().As4()
	var m [4]byte
	for i := range p.Bits() {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return native(b[:]), native(m[:])
}

func range6(p netip.Prefix) (base, mask meshAddress) {
	if !p.IsValid() {
		return meshAddress{}, meshAddress{}
	}
	var m [16]byte
	for i := range p.Bits() {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return toAddress(p.Masked().Addr()), toAddress(netip.AddrFrom16(m))
}

// SPDX-License-Identifier: Apache-2.0

package seen

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// named is the loopback address that stands for a virtual one in another network
// namespace, where the answers to a virtual address would be routed to the host: the
// last 22 bits are the same. The hooks have accept() and getpeername() return the
// virtual address; this one is what else shows there, and what the program sees if a
// hook is missing, since programs trust 127.0.0.1.
func named(virtual netip.Addr) netip.Addr {
	b := virtual.As4()
	return netip.AddrFrom4([4]byte{127, 64 | b[1]&63, b[2], b[3]})
}

// bindInner binds a socket of another network namespace. IPv6 has one loopback
// address only, which the kernel chooses by itself.
func bindInner(fd int, virtual netip.Addr) error {
	if !virtual.Is4() {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	at := named(virtual)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: at.As4()}); err != nil {
		return fmt.Errorf("bind to %s, which stands for %s (is lo up in the network namespace of the program?): %w", at, virtual, err)
	}
	return nil
}

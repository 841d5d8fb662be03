// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"net/netip"
)

// Virtual4 is the virtual IPv4 address of service number n: base plus number.
// It is invalid where the range has no such address.
func Virtual4(r netip.Prefix, n uint32) netip.Addr {
	if n == 0 || n >= 1<<(32-r.Bits()) {
		return netip.Addr{}
	}
	b := r.Masked().Addr().As4()
	orNumber(b[:], n)
	return netip.AddrFrom4(b)
}

// Virtual6 is the virtual IPv6 address of service number n: the number in the
// last 32 bits.
func Virtual6(r netip.Prefix, n uint32) netip.Addr {
	if n == 0 {
		return netip.Addr{}
	}
	b := r.Masked().Addr().As16()
	orNumber(b[12:], n)
	return netip.AddrFrom16(b)
}

func orNumber(b []byte, n uint32) {
	binary.BigEndian.PutUint32(b, binary.BigEndian.Uint32(b)|n)
}

// NumberOf returns the service number of a virtual address.
func (k *Kernel) NumberOf(a netip.Addr) (uint32, bool) {
	return NumberOf(k.conf.Range4, k.conf.Range6, a)
}

// NumberOf returns the service number of a virtual address of either range.
func NumberOf(range4, range6 netip.Prefix, a netip.Addr) (uint32, bool) {
	a = a.Unmap()
	r, virtual := range6, Virtual6
	if a.Is4() {
		r, virtual = range4, Virtual4
	}
	if !r.Contains(a) {
		return 0, false
	}
	b, base := a.AsSlice(), r.Masked().Addr().AsSlice()
	n := binary.BigEndian.Uint32(b[len(b)-4:]) ^ binary.BigEndian.Uint32(base[len(base)-4:])
	return n, n != 0 && virtual(r, n) == a
}

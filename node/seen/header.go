// SPDX-License-Identifier: Apache-2.0

package seen

import (
	"encoding/binary"
	"net/netip"
)

// Numbers of the PROXY protocol, version 2 (section 2.2 of its specification).
const (
	signature   = "\r\n\r\n\x00\r\nQUIT\n"
	proxied     = 0x21 // version 2, command PROXY
	local       = 0x20 // version 2, command LOCAL
	overTCP4    = 0x11
	overTCP6    = 0x21
	typeSPIFFE  = 0xE0 // PP2_TYPE_MIN_CUSTOM: the first of the types for own use
	headerStart = 16
)

// OwnHeader is what a program reads that expects the protocol where the daemon
// itself connects, as for a health check: the connection is for nobody else.
func OwnHeader() []byte { return append([]byte(signature), local, 0, 0, 0) }

// header is what the program reads before the first byte of its caller: the two
// addresses, and the caller's SPIFFE ID in a TLV. IPv4 addresses are mapped
// where the other one is IPv6.
func header(client, program netip.AddrPort, spiffe string) []byte {
	from, to, family := client.Addr().Unmap(), program.Addr().Unmap(), byte(overTCP4)
	if !from.Is4() || !to.Is4() {
		from, to, family = netip.AddrFrom16(from.As16()), netip.AddrFrom16(to.As16()), overTCP6
	}
	out := append(make([]byte, 0, 256), signature...)
	out = append(out, proxied, family, 0, 0)
	out = append(append(out, from.AsSlice()...), to.AsSlice()...)
	out = binary.BigEndian.AppendUint16(out, client.Port())
	out = binary.BigEndian.AppendUint16(out, program.Port())
	out = binary.BigEndian.AppendUint16(append(out, typeSPIFFE), uint16(len(spiffe)))
	out = append(out, spiffe...)
	binary.BigEndian.PutUint16(out[headerStart-2:], uint16(len(out)-headerStart))
	return out
}

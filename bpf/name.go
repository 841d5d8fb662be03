// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"net/netip"
	"slices"
	"strings"
)

// wire returns a DNS name in wire format (RFC 1035, section 3.1), in lower case.
func wire(name string) []byte {
	var out []byte
	for label := range strings.SplitSeq(strings.ToLower(strings.TrimSuffix(name, ".")), ".") {
		out = append(append(out, byte(len(label))), label...)
	}
	return append(out, 0)
}

// NameLength returns the length of a name in wire format.
func NameLength(name string) uint32 { return uint32(len(wire(name))) }

// toName reverses the bytes of a name. A name has at most 255 bytes (RFC 1035,
// section 2.3.4); a longer one loses its first labels.
func toName(name string) (k meshNameKey) {
	w := wire(name)
	slices.Reverse(w)
	k.Prefixlen = uint32(8 * copy(k.Wire[:], w))
	return k
}

func fromName(k meshNameKey) string {
	w := slices.Clone(k.Wire[:min(int(k.Prefixlen/8), len(k.Wire))])
	slices.Reverse(w)
	var labels []string
	for len(w) > 1 && int(w[0]) < len(w) {
		labels = append(labels, string(w[1:1+w[0]]))
		w = w[1+w[0]:]
	}
	return strings.Join(labels, ".")
}

// mappedBits is the length of the prefix ::ffff:0:0/96 of mapped IPv4 addresses.
const mappedBits = 96

func toNet(p netip.Prefix) meshNetKey {
	k := meshNetKey{Prefixlen: uint32(p.Bits()), Addr: toAddress(p.Masked().Addr())}
	if p.Addr().Is4() {
		k.Prefixlen += mappedBits
	}
	return k
}

func fromNet(k meshNetKey) netip.Prefix {
	a := fromAddress(k.Addr)
	if a.Is4() {
		return netip.PrefixFrom(a, int(k.Prefixlen)-mappedBits)
	}
	return netip.PrefixFrom(a, int(k.Prefixlen))
}

// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net/netip"
	"strconv"
	"strings"

	"tacit/identity"
)

// The domains of names for addresses (RFC 1035, section 3.5; RFC 3596, section 2.5).
const (
	arpa4 = "in-addr"
	arpa6 = "ip6"
)

// reversed classifies a name for a virtual address, or for a part of a virtual
// range; false means that the name is none.
func (s *Server) reversed(labels []string) (meaning, bool) {
	n := len(labels)
	if n < 3 || labels[n-1] != "arpa" {
		return meaning{}, false
	}
	prefix, whole := reversedPrefix(labels[n-2], labels[:n-2])
	for _, r := range s.ranges {
		if !prefix.IsValid() || prefix.Bits() < r.Bits() || !r.Contains(prefix.Addr()) {
			continue
		}
		if prefix.IsSingleIP() && whole {
			if name, err := identity.ParseSource(string(s.zone.Owner(prefix.Addr()))); err == nil {
				return meaning{kind: reverse, name: name}, true
			}
		}
		if prefix.IsSingleIP() || !whole {
			return meaning{kind: missing}, true
		}
		return meaning{kind: empty}, true
	}
	return meaning{}, false
}

// reversedPrefix is the range that labels before in-addr.arpa or ip6.arpa name;
// whole is false if some of them are no part of an address.
func reversedPrefix(family string, labels []string) (prefix netip.Prefix, whole bool) {
	var bytes [16]byte
	size, width, base := 4, 8, 10
	if family == arpa6 {
		size, width, base = 16, 4, 16
	} else if family != arpa4 {
		return netip.Prefix{}, false
	}
	count := 0
	for count < len(labels) && count*width < size*8 {
		label := labels[len(labels)-1-count]
		v, err := strconv.ParseUint(label, base, width)
		if err != nil || len(label) > 1 && label[0] == '0' {
			break
		}
		bytes[count*width/8] |= byte(v) << (8 - width - count*width%8)
		count++
	}
	addr, _ := netip.AddrFromSlice(bytes[:size])
	return netip.PrefixFrom(addr, count*width), count == len(labels)
}

// reverseDomains are the domains of names for the addresses of a range.
func reverseDomains(r netip.Prefix) []string {
	width, family, base := 8, arpa4, 10
	if r.Addr().Is6() {
		width, family, base = 4, arpa6, 16
	}
	count := (r.Bits() + width - 1) / width
	var out []string
	for i := range 1 << (count*width - r.Bits()) {
		bytes := r.Masked().Addr().AsSlice()
		if count > 0 {
			bytes[(count-1)*width/8] |= byte(i << (8 - width - (count-1)*width%8))
		}
		labels := make([]string, count, count+2)
		for k := range count {
			v := bytes[k*width/8] >> (8 - width - k*width%8) & (1<<width - 1)
			labels[count-1-k] = strconv.FormatUint(uint64(v), base)
		}
		out = append(out, strings.Join(append(labels, family, "arpa"), "."))
	}
	return out
}

// pointer is the name that a virtual address is answered with. The one of an
// ingress can't be looked up.
func (s *Server) pointer(name identity.Name) string {
	labels := string(name.Label())
	if name.IsIngress() {
		labels += ".ingress"
	}
	for _, d := range s.domains {
		if !d.consul {
			return labels + "." + d.text
		}
	}
	return labels + "." + inVirtual + ".consul."
}

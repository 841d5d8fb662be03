// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Record types that hold addresses (RFC 1035, RFC 3596, RFC 9460).
const (
	typeA     = 1
	typeAAAA  = 28
	typeSVCB  = 64
	typeHTTPS = 65

	hint4 = 4 // SvcParamKey ipv4hint
	hint6 = 6 // SvcParamKey ipv6hint
)

// rebinds returns a virtual address that the reply of an upstream contains; an
// invalid one: none. No name outside of the mesh may lead to one: whoever owns the
// name would choose which service a program calls.
func (s *Server) rebinds(reply []byte) (found netip.Addr) {
	eachRecord(reply, func(rrtype uint16, data []byte) {
		for _, addr := range addressesIn(rrtype, data) {
			if slices.ContainsFunc(s.ranges, func(r netip.Prefix) bool { return r.Contains(addr) }) {
				found = addr
			}
		}
	})
	return found
}

// eachRecord calls f for each record of class IN, up to the first that can't be parsed.
func eachRecord(m []byte, f func(rrtype uint16, data []byte)) {
	if len(m) < headerSize {
		return
	}
	at, ok := headerSize, true
	for range binary.BigEndian.Uint16(m[4:]) {
		if at, ok = afterName(m, at); !ok {
			return
		}
		at += 4
	}
	records := 0
	for i := 6; i < headerSize; i += 2 {
		records += int(binary.BigEndian.Uint16(m[i:]))
	}
	for range records {
		if at, ok = afterName(m, at); !ok || at+10 > len(m) {
			return
		}
		rrtype, class, end := binary.BigEndian.Uint16(m[at:]), binary.BigEndian.Uint16(m[at+2:]), at+10+int(binary.BigEndian.Uint16(m[at+8:]))
		if end > len(m) {
			return
		}
		if class == 1 {
			f(rrtype, m[at+10:end])
		}
		at = end
	}
}

// afterName skips a name, which a pointer may end.
func afterName(m []byte, at int) (int, bool) {
	for at < len(m) {
		switch n := int(m[at]); {
		case n == 0:
			return at + 1, true
		case n >= 0xc0:
			return at + 2, at+2 <= len(m)
		case n > maxLabel:
			return 0, false
		default:
			at += 1 + n
		}
	}
	return 0, false
}

func addressesIn(rrtype uint16, data []byte) []netip.Addr {
	switch {
	case rrtype == typeA && len(data) == 4, rrtype == typeAAAA && len(data) == 16:
		addr, _ := netip.AddrFromSlice(data)
		return []netip.Addr{addr.Unmap()}
	case rrtype == typeSVCB || rrtype == typeHTTPS:
		return hints(data)
	}
	return nil
}

// hints are the addresses in the parameters of a service binding.
func hints(data []byte) (out []netip.Addr) {
	at, ok := afterName(data, min(2, len(data)))
	for ok && at+4 <= len(data) {
		key, end := binary.BigEndian.Uint16(data[at:]), at+4+int(binary.BigEndian.Uint16(data[at+2:]))
		if end > len(data) {
			break
		}
		size := map[uint16]int{hint4: 4, hint6: 16}[key]
		if size > 0 {
			for part := range slices.Chunk(data[at+4:end], size) {
				if addr, ok := netip.AddrFromSlice(part); ok {
					out = append(out, addr.Unmap())
				}
			}
		}
		at = end
	}
	return out
}

// Rebinding is how many replies of upstreams were refused because they led to a
// virtual address.
func (s *Server) Rebinding() uint64 { return s.rebinding.Load() }

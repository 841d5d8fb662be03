// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"tacit/identity"
)

// Labels of Consul's grammar, between a name and the domain.
const (
	inService = "service" // [TAG.]NAME.service, _NAME._tcp.service, _NAME._TAG.service
	inVirtual = "virtual" // [SUBSET.]NAME.virtual
	inConnect = "connect" // [SUBSET.]NAME.connect
	inNode    = "node"    // NODE.node
	inAddr    = "addr"    // HEX.addr
	inDC      = "dc"      // …DATACENTER.dc
	anyTag    = "_tcp"    // RFC 2782: every instance
)

// inConsul classifies Consul's names, by the labels before the domain.
func (s *Server) inConsul(rest []string) meaning {
	rest = s.cutDatacenter(rest)
	if len(rest) == 0 {
		return meaning{kind: empty}
	}
	names := rest[:len(rest)-1]
	switch group := rest[len(rest)-1]; group {
	case inService:
		return s.inService(names)
	case inVirtual, inConnect:
		if len(names) == 2 {
			if p, ok := s.subset(names[1], names[0]); ok {
				p.srv = group == inConnect
				return p
			}
		}
		if len(names) == 1 {
			p := s.service(names[0], "")
			p.srv = p.srv && group == inConnect
			return p
		}
	case inNode:
		if len(names) == 1 {
			return s.node(names[0])
		}
	case inAddr:
		if len(names) == 1 {
			return spelled(names[0])
		}
	default:
		if strings.HasPrefix(group, "_") { // ".service" may be left out
			return s.inService(rest)
		}
		return meaning{kind: missing}
	}
	if len(names) == 0 {
		return meaning{kind: empty} // NXDOMAIN would deny all names below it (RFC 8020)
	}
	return meaning{kind: missing, ours: s.has(names[len(names)-1])}
}

// cutDatacenter removes this mesh's datacenter, if it has one: DATACENTER or
// DATACENTER.dc.
func (s *Server) cutDatacenter(rest []string) []string {
	n := len(rest)
	switch {
	case s.datacenter == "":
		return rest
	case n == 1 && rest[0] == inDC:
		return nil
	case n > 1 && rest[n-1] == inDC && rest[n-2] == s.datacenter:
		return rest[:n-2]
	case n > 0 && rest[n-1] == s.datacenter:
		return rest[:n-1]
	}
	return rest
}

// inService classifies the labels before "service".
func (s *Server) inService(names []string) meaning {
	switch n := len(names); {
	case n == 0, n == 1 && names[0] == anyTag:
		return meaning{kind: empty}
	case n == 2 && strings.HasPrefix(names[0], "_") && names[1] == anyTag:
		return s.service(names[0][1:], "")
	case n == 2 && strings.HasPrefix(names[0], "_") && len(names[1]) > 1 && names[1][0] == '_':
		return s.service(names[0][1:], names[1][1:])
	default:
		return s.service(names[n-1], strings.Join(names[:n-1], "."))
	}
}

// service is the meaning of a service's name. A tag that no healthy instance has
// is NXDOMAIN, as Consul answers.
func (s *Server) service(label, tag string) meaning {
	name, ok := s.known(label)
	if !ok {
		return meaning{kind: missing}
	}
	if p, ok := s.subset(label, tag); ok {
		return p
	}
	if tag != "" && !slices.ContainsFunc(s.zone.Instances(name), func(i Instance) bool { return i.Healthy && i.has(tag) }) {
		return meaning{kind: missing, name: name, tag: tag, ours: true}
	}
	return meaning{kind: service, name: name, tag: tag, srv: true}
}

// subset is the meaning of a service's name after that of one of its subsets, which
// the zone knows as a service with a dot.
func (s *Server) subset(label, subset string) (meaning, bool) {
	name := identity.Name(subset + "." + label)
	if subset == "" {
		return meaning{}, false
	}
	_, _, ok := s.zone.Lookup(name)
	return meaning{kind: service, name: name, srv: true}, ok
}

func (s *Server) has(label string) bool { _, ok := s.known(label); return ok }

func (i Instance) has(tag string) bool {
	return slices.ContainsFunc(i.Tags, func(t string) bool { return lower(t) == tag })
}

func (s *Server) node(label string) meaning {
	name, err := identity.ParseName(label)
	if err != nil {
		return meaning{kind: missing}
	}
	if addrs := s.zone.Node(name); len(addrs) > 0 {
		return meaning{kind: host, addrs: addrs}
	}
	return meaning{kind: missing}
}

// spelled is the meaning of an address in hexadecimal digits.
func spelled(label string) meaning {
	if b, err := hex.DecodeString(label); err == nil {
		if addr, ok := netip.AddrFromSlice(b); ok {
			return meaning{kind: host, addrs: []netip.Addr{addr}}
		}
	}
	return meaning{kind: missing}
}

// ports are those by which a service's name can be called, each with the weight of
// its healthy instances. With a tag they are only those where every instance has
// it: a connection to a virtual address goes to any instance with that port.
func (s *Server) ports(name identity.Name, tag string) map[uint16]int {
	out, mixed := map[uint16]int{}, map[uint16]bool{}
	for _, i := range s.zone.Instances(name) {
		switch {
		case tag != "" && !i.has(tag):
			mixed[i.Port] = true
		case i.Healthy:
			out[i.Port] += max(i.Weight, 1)
		}
	}
	for port := range mixed {
		delete(out, port)
	}
	return out
}

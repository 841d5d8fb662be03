// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"slices"
	"strings"

	"tacit/identity"
)

// domain is one that the mesh owns.
type domain struct {
	labels []string
	consul bool // Consul's grammar: NAME.service, NAME.virtual, NAME.connect
}

// kind says what a name is to us.
type kind uint8

const (
	foreign kind = iota // not ours: forward
	unknown             // ours, and doesn't exist
	empty               // ours, exists, has no records: the domain itself, or a step on the way to names
	service             // a service's name
)

// place is a name, understood.
type place struct {
	kind    kind
	name    identity.Name // of a service
	soa     string        // owner of the SOA, with final dot; "" is the asked name itself
	srv     bool          // has an SRV record
	virtual string        // domain of the SRV target, with final dot
}

// find places a name of lower-case labels. Names under our domains are ours
// whatever they are; a bare name or one below a search suffix only when a
// service is called so.
func (s *Server) find(labels []string) place {
	for _, d := range s.domains {
		if rest, ok := cutSuffix(labels, d.labels); ok {
			p := s.below(d, rest)
			p.soa = strings.Join(d.labels, ".") + "."
			p.virtual = "virtual." + p.soa
			return p
		}
	}
	if len(labels) == 0 || !s.bare(labels) {
		return place{}
	}
	name, ok := s.known(labels[0])
	if !ok || name == "localhost" { // RFC 6761 gives that name away
		return place{}
	}
	return place{kind: service, name: name}
}

// bare says whether labels are one label, or one label below a search suffix.
func (s *Server) bare(labels []string) bool {
	if len(labels) == 1 {
		return true
	}
	for _, suffix := range s.search() {
		if rest, ok := cutSuffix(labels, splitName(suffix)); ok && len(rest) == 1 {
			return true
		}
	}
	return false
}

// below places what stands before one of our domains.
func (s *Server) below(d domain, rest []string) place {
	switch {
	case len(rest) == 0:
		return place{kind: empty}
	case d.consul:
		return s.belowConsul(rest)
	case len(rest) == 1:
		return s.service(rest[0], false)
	}
	return place{kind: unknown}
}

// belowConsul follows Consul's names: NAME.service, NAME.virtual,
// NAME.connect and _NAME._tcp.service (RFC 2782).
func (s *Server) belowConsul(rest []string) place {
	group := rest[len(rest)-1]
	if group != "service" && group != "virtual" && group != "connect" {
		return place{kind: unknown}
	}
	rest = rest[:len(rest)-1]
	switch {
	case len(rest) == 0, len(rest) == 1 && group == "service" && rest[0] == "_tcp":
		return place{kind: empty} // NXDOMAIN would deny all names below (RFC 8020)
	case len(rest) == 1:
		return s.service(rest[0], group == "service")
	case len(rest) == 2 && group == "service" && rest[1] == "_tcp" && strings.HasPrefix(rest[0], "_"):
		return s.service(rest[0][1:], true)
	}
	return place{kind: unknown}
}

func (s *Server) service(label string, srv bool) place {
	name, ok := s.known(label)
	if !ok {
		return place{kind: unknown}
	}
	return place{kind: service, name: name, srv: srv}
}

func (s *Server) known(label string) (identity.Name, bool) {
	name, err := identity.ParseName(label)
	if err != nil {
		return "", false
	}
	_, _, _, ok := s.zone.Lookup(name)
	return name, ok
}

func cutSuffix(labels, suffix []string) (rest []string, ok bool) {
	n := len(labels) - len(suffix)
	if len(suffix) == 0 || n < 0 || !slices.Equal(labels[n:], suffix) {
		return nil, false
	}
	return labels[:n], true
}

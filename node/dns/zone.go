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

// kind classifies a name.
type kind uint8

const (
	outside kind = iota // not the mesh's: forward
	missing             // in a domain of the mesh, doesn't exist
	empty               // in a domain of the mesh, has no records: the domain itself, or a name between it and a service
	service             // a service's name
)

// meaning is what a name stands for in the mesh.
type meaning struct {
	kind    kind
	name    identity.Name // of a service
	soa     string        // owner of the SOA, with final dot; "": the queried name itself
	srv     bool          // has an SRV record
	virtual string        // domain of the SRV target, with final dot
}

// classify classifies a name of lower-case labels. All names in the mesh's domains
// are the mesh's; a bare name, or one below a search suffix, only if it is a
// service's.
func (s *Server) classify(labels []string) meaning {
	for _, d := range s.domains {
		if rest, ok := cutSuffix(labels, d.labels); ok {
			p := s.inDomain(d, rest)
			p.soa = strings.Join(d.labels, ".") + "."
			p.virtual = "virtual." + p.soa
			return p
		}
	}
	if len(labels) == 0 || !s.bare(labels) {
		return meaning{}
	}
	name, ok := s.known(labels[0])
	if !ok || name == "localhost" { // reserved by RFC 6761
		return meaning{}
	}
	return meaning{kind: service, name: name}
}

// bare reports whether labels are one label, or one label below a search suffix.
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

// inDomain classifies the labels before a domain of the mesh.
func (s *Server) inDomain(d domain, rest []string) meaning {
	switch {
	case len(rest) == 0:
		return meaning{kind: empty}
	case d.consul:
		return s.inConsul(rest)
	case len(rest) == 1:
		return s.service(rest[0], false)
	}
	return meaning{kind: missing}
}

// inConsul classifies Consul's names: NAME.service, NAME.virtual, NAME.connect and
// _NAME._tcp.service (RFC 2782).
func (s *Server) inConsul(rest []string) meaning {
	group := rest[len(rest)-1]
	if group != "service" && group != "virtual" && group != "connect" {
		return meaning{kind: missing}
	}
	rest = rest[:len(rest)-1]
	switch {
	case len(rest) == 0, len(rest) == 1 && group == "service" && rest[0] == "_tcp":
		return meaning{kind: empty} // NXDOMAIN would deny all names below it (RFC 8020)
	case len(rest) == 1:
		return s.service(rest[0], group == "service")
	case len(rest) == 2 && group == "service" && rest[1] == "_tcp" && strings.HasPrefix(rest[0], "_"):
		return s.service(rest[0][1:], true)
	}
	return meaning{kind: missing}
}

func (s *Server) service(label string, srv bool) meaning {
	name, ok := s.known(label)
	if !ok {
		return meaning{kind: missing}
	}
	return meaning{kind: service, name: name, srv: srv}
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

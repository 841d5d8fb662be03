// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net/netip"
	"slices"
	"strings"

	"tacit/identity"
)

// Zone is what the mesh knows. It is asked from many goroutines and must be quick.
type Zone interface {
	// Lookup returns the virtual addresses of a service that has an instance
	// with a port, invalid where it has none of that family. The subset v1 of db is
	// the service v1.db.
	Lookup(name identity.Name) (v4, v6 netip.Addr, ok bool)
	// Instances returns the instances of a service, or subset, that have a port.
	Instances(name identity.Name) []Instance
	// Node returns the addresses of a member; none: there is no such member.
	Node(name identity.Name) []netip.Addr
	// Owner returns the service to which a virtual address was given, "" for none.
	Owner(addr netip.Addr) identity.Name
	// Real returns the service outside of the mesh that has a real name, "" for none.
	Real(name string) identity.Name
	// Enrolled says whether a program in a cgroup may be a workload; cgroup 0 isn't
	// known.
	Enrolled(cgroup uint64) bool
}

// Instance is what an answer depends on.
type Instance struct {
	Port    uint16
	Tags    []string
	Weight  int
	Healthy bool // it can be called now
}

// domain is one that the mesh owns.
type domain struct {
	labels []string
	text   string // with final dot
	consul bool   // a Consul agent may own names below it, too
}

// kind classifies a name.
type kind uint8

const (
	outside kind = iota // not the mesh's: forward
	missing             // in a domain of the mesh, doesn't exist
	empty               // in a domain of the mesh, has no records: a name between the domain and a service
	apex                // a domain of the mesh itself
	service             // a service's name
	host                // a name with fixed addresses: a node's, or one that spells an address
	reverse             // in-addr.arpa or ip6.arpa: a virtual address
)

// meaning is what a name stands for in the mesh.
type meaning struct {
	kind   kind
	name   identity.Name // of a service
	tag    string        // only instances with this tag are meant
	addrs  []netip.Addr  // of a host
	ours   bool          // missing: the mesh has the service, so nobody else is asked
	srv    bool          // has SRV records
	real   bool          // the real name of a service outside of the mesh: the mesh's for workloads only
	domain string        // with final dot; "": none, and the SOA's owner is the queried name itself
}

// classify classifies a name of lower-case labels. All names in the mesh's domains
// are the mesh's, except that those below consul which the mesh doesn't have are
// forwarded, if that is configured. A bare name, or one below a configured search
// suffix, is the mesh's only if it is a service's.
func (s *Server) classify(labels []string) meaning {
	for _, d := range s.domains {
		if rest, ok := cutSuffix(labels, d.labels); ok {
			p := s.inDomain(d, rest)
			if p.kind == missing && !p.ours && d.consul && s.forwardConsul {
				return meaning{}
			}
			p.domain = d.text
			return p
		}
	}
	if p, ok := s.reversed(labels); ok {
		return p
	}
	if len(labels) > 0 && s.bare(labels) {
		if name, ok := s.known(labels[0]); ok && name != "localhost" { // reserved by RFC 6761
			return meaning{kind: service, name: name}
		}
	}
	if name := s.zone.Real(strings.Join(labels, ".")); name != "" {
		return meaning{kind: service, name: name, real: true}
	}
	return meaning{}
}

// bare reports whether labels are one label, or one label below a search suffix.
func (s *Server) bare(labels []string) bool {
	if len(labels) == 1 {
		return true
	}
	return slices.ContainsFunc(s.search, func(suffix []string) bool {
		rest, ok := cutSuffix(labels, suffix)
		return ok && len(rest) == 1
	})
}

// inDomain classifies the labels before a domain of the mesh. Below the mesh's own
// domains, NAME alone is a service as well, and SUBSET.NAME a subset.
func (s *Server) inDomain(d domain, rest []string) meaning {
	if len(rest) == 0 {
		return meaning{kind: apex}
	}
	if len(rest) == 1 && !d.consul {
		if p := s.service(rest[0], ""); p.kind == service {
			return p
		}
	}
	p := s.inConsul(rest)
	if p.kind == missing && len(rest) == 2 && !d.consul {
		if q, ok := s.subset(rest[1], rest[0]); ok {
			return q
		}
	}
	return p
}

func (s *Server) known(label string) (identity.Name, bool) {
	name, err := identity.ParseName(label)
	if err != nil {
		return "", false
	}
	_, _, ok := s.zone.Lookup(name)
	return name, ok
}

func cutSuffix(labels, suffix []string) (rest []string, ok bool) {
	n := len(labels) - len(suffix)
	if len(suffix) == 0 || n < 0 || !slices.Equal(labels[n:], suffix) {
		return nil, false
	}
	return labels[:n], true
}

func joined(labels []string) string { return strings.Join(labels, ".") + "." }

// SPDX-License-Identifier: Apache-2.0

// Package zone tells the DNS server which services, nodes and addresses there are,
// from the catalog, the records and the numbers of virtual addresses. How a name is
// read, and what an answer looks like, is the dns package's to know.
package zone

import (
	"net/netip"
	"slices"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/dns"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
	"tacit/redirect/sockdiag"
)

// Config is what a Zone asks for present values.
type Config struct {
	Probe   func(identity.Name) (v4, v6 netip.Addr, ok bool) // the self-probe's own service
	Catalog func() *catalog.Catalog
	Virtual func(identity.Name) (v4, v6 netip.Addr)
	Record  func(node identity.Name) (statement.Node, bool)
	Number  func(netip.Addr) (number uint32, ok bool)
	Name    func(number uint32) (identity.Name, bool)
	// Programs says whether a program in a cgroup may be a workload.
	Programs func(cgroup uint64) bool
}

// Zone is a dns.Zone.
type Zone struct{ Config }

// Lookup returns the virtual addresses of a service that can be called, or of a
// subset by its name (resolver.NameOf).
func (z Zone) Lookup(name identity.Name) (v4, v6 netip.Addr, ok bool) {
	if v4, v6, ok := z.Probe(name); ok {
		return v4, v6, true
	}
	subset, service := resolver.Cut(name)
	if !z.Catalog().Known(service) || subset != "" && !slices.Contains(z.Catalog().Subsets(service), subset) {
		return netip.Addr{}, netip.Addr{}, false
	}
	v4, v6 = z.Virtual(name)
	return v4, v6, v4.IsValid()
}

// Instances returns those that can be called, as far as names depend on them.
func (z Zone) Instances(name identity.Name) []dns.Instance {
	var out []dns.Instance
	subset, service := resolver.Cut(name)
	rules, _ := z.Catalog().Rules(service)
	for _, i := range z.Catalog().Instances(service) {
		if i.Port != 0 && (subset == "" || rules.Subsets[subset].Has(i.Tags, i.Meta)) {
			out = append(out, dns.Instance{Port: i.Port, Tags: i.Tags, Weight: i.Weight, Healthy: i.Healthy})
		}
	}
	return out
}

// Node returns the addresses in a member's record.
func (z Zone) Node(name identity.Name) []netip.Addr {
	body, ok := z.Record(name)
	if !ok {
		return nil
	}
	var out []netip.Addr
	for _, text := range append([]string{body.Address}, body.Also...) {
		if addr, err := netip.ParseAddr(text); err == nil {
			out = append(out, addr.Unmap())
		}
	}
	return out
}

// Owner returns the service to which, or to a subset of which, a virtual address was
// given.
func (z Zone) Owner(addr netip.Addr) identity.Name {
	number, ok := z.Number(addr)
	if !ok {
		return ""
	}
	name, _ := z.Name(number)
	_, service := resolver.Cut(name)
	return service
}

// Real returns the service outside of the mesh that has a real name.
func (z Zone) Real(name string) identity.Name { return z.Catalog().Claims().Hosts[name] }

// Enrolled says whether a program in a cgroup may be a workload.
func (z Zone) Enrolled(cgroup uint64) bool { return z.Programs(cgroup) }

// Sender tells programs apart by the cgroup of their socket.
func Sender(s *sockdiag.Senders) dns.Sender {
	return func(network string, client, server netip.AddrPort) uint64 {
		cgroup, err := s.CgroupOf(network == "udp", client, server)
		if err != nil {
			return 0
		}
		return cgroup
	}
}

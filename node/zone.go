// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"net/netip"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/dns"
	"tacit/redirect/sockdiag"
)

// zone answers names from the catalog, the records and the numbers.
type zone struct{ n *Node }

// Lookup returns the virtual addresses of a service that can be called.
func (z zone) Lookup(name identity.Name) (v4, v6 netip.Addr, ok bool) {
	if v4, v6, ok := z.n.probe.Lookup(name); ok {
		return v4, v6, true
	}
	if !z.n.loop.Catalog().Known(name) {
		return netip.Addr{}, netip.Addr{}, false
	}
	v4, v6 = z.n.virtual(name)
	return v4, v6, v4.IsValid()
}

// Instances returns those that can be called, as far as names depend on them.
func (z zone) Instances(name identity.Name) []dns.Instance {
	var out []dns.Instance
	for _, i := range z.n.loop.Catalog().Instances(name) {
		if i.Port != 0 {
			out = append(out, dns.Instance{Port: i.Port, Tags: i.Tags, Weight: i.Weight, Healthy: healthy(i)})
		}
	}
	return out
}

// healthy reports whether names may lead to an instance now.
func healthy(i catalog.Instance) bool { return i.Alive }

// Node returns the addresses in a member's record.
func (z zone) Node(name identity.Name) []netip.Addr {
	body, ok := z.n.records.View().Node(name)
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

// Owner returns the service to which a virtual address was given.
func (z zone) Owner(addr netip.Addr) identity.Name {
	number, ok := z.n.enforcer.NumberOf(addr)
	if !ok {
		return ""
	}
	name, _ := z.n.numbers.Name(number)
	return name
}

// Service says which service a name means, and why.
func (z zone) Service(name string) (identity.Name, string) { return z.n.names.Service(name) }

// Virtual returns a service's virtual addresses.
func (z zone) Virtual(name identity.Name) (v4, v6 netip.Addr) { return z.n.virtual(name) }

// Outside says what the bare name of a service means to the host's first resolver.
func (z zone) Outside(ctx context.Context, name identity.Name) []string {
	return z.n.shadows.Ask(ctx, name)
}

// Rebinding is how many answers of resolvers were refused.
func (z zone) Rebinding() uint64 { return z.n.names.Rebinding() }

// sender tells programs apart by the cgroup of their socket.
func sender(s *sockdiag.Senders) dns.Sender {
	return func(network string, client, server netip.AddrPort) uint64 {
		cgroup, err := s.CgroupOf(network == "udp", client, server)
		if err != nil {
			return 0
		}
		return cgroup
	}
}

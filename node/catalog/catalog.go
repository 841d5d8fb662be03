// SPDX-License-Identifier: Apache-2.0

// Package catalog is a snapshot of the mesh's services: which instances run on which
// nodes, and which of them can serve. The kernel's desired state, the choice of
// an instance and the answers to DNS queries follow from it. It must not do I/O: a
// catalog is made, read, and thrown away.
package catalog

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"tacit/identity"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
)

// Instance is one instance of a service, on any node.
type Instance struct {
	statement.Instance
	Addr  netip.AddrPort // its real address
	Lane  netip.AddrPort // its node's lane port, from the node's signed record
	Zone  string         // its node's; "" is none
	Here  bool           // on this node
	Alive bool           // its node answers

	Healthy bool // its node answers or isn't needed, and says that it can serve
}

// Catalog is immutable; make a new one after a change.
type Catalog struct {
	node     identity.Name
	zone     string // of node
	services map[identity.Name][]Instance
	rules    map[identity.Name]resolver.Rules
	claims   Claims

	digest, rulesText func() string
}

// Records is the part of the ledger that a catalog reads.
type Records interface {
	Instances() []statement.Instance
	Node(identity.Name) (statement.Node, bool)
	Resolvers() []resolver.Rules
	// Vouched returns the real names and addresses that a node's instances of a
	// service may stand for.
	Vouched(node, service identity.Name) []string
}

// New makes the catalog of node; alive reports whether another node answers.
func New(node identity.Name, records Records, alive func(identity.Name) bool) *Catalog {
	c := &Catalog{node: node, services: map[identity.Name][]Instance{}, rules: map[identity.Name]resolver.Rules{}}
	if self, ok := records.Node(node); ok {
		c.zone = self.Zone
	}
	for _, body := range records.Instances() {
		in, ok := instance(body, records)
		if !ok {
			continue
		}
		in.Here = body.Node == node
		in.Alive = in.Here || alive(body.Node)
		in.Healthy = (in.Alive || in.Direct()) && body.Down == ""
		c.services[body.Service] = append(c.services[body.Service], in)
	}
	for _, list := range c.services {
		slices.SortFunc(list, func(a, b Instance) int {
			return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID))
		})
	}
	for _, r := range records.Resolvers() {
		c.rules[r.Service] = r
		if _, runs := c.services[r.Service]; !runs && len(r.Failover) > 0 {
			c.services[r.Service] = nil // others answer for it
		}
	}
	c.claims = c.sumClaims(records.Vouched)
	c.digest, c.rulesText = sync.OnceValue(c.sum), sync.OnceValue(c.text)
	return c
}

// Digest is equal on nodes that resolve the same services, and know the same ports
// of them.
func (c *Catalog) Digest() string { return c.digest() }

func (c *Catalog) sum() string {
	h := sha256.New()
	for _, service := range c.Services() {
		if ports := c.Ports(service); len(ports) > 0 {
			fmt.Fprintln(h, service, ports)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func instance(body statement.Instance, records Records) (Instance, bool) {
	host, ok := records.Node(body.Node)
	if !ok {
		return Instance{}, false
	}
	nodeAddr, err := netip.ParseAddr(host.Address)
	if err != nil {
		return Instance{}, false
	}
	addr := nodeAddr
	if body.Address != "" {
		addr, err = netip.ParseAddr(body.Address)
		if err != nil || addr.IsLoopback() || addr.IsUnspecified() || addr.IsMulticast() {
			return Instance{}, false // not reachable from other nodes
		}
	}
	return Instance{
		Instance: body,
		Addr:     netip.AddrPortFrom(addr.Unmap(), body.Port),
		Lane:     netip.AddrPortFrom(nodeAddr.Unmap(), host.LanePort),
		Zone:     host.Zone,
	}, true
}

// Services lists the names of all services that have an instance, or others that
// stand in for them, sorted.
func (c *Catalog) Services() []identity.Name { return slices.Sorted(maps.Keys(c.services)) }

// Instances lists a service's instances in order of node and id.
func (c *Catalog) Instances(service identity.Name) []Instance { return c.services[service] }

// Known reports whether the service has an instance that can be called, or another
// one that stands in for it does.
func (c *Catalog) Known(service identity.Name) bool { return len(c.Ports(service)) > 0 }

// Ports lists the distinct ports of a service, sorted; client-only instances have
// none. A service without any has those of the services that stand in for it.
func (c *Catalog) Ports(service identity.Name) []uint16 {
	set := map[uint16]bool{}
	c.addPorts(set, service)
	for _, standby := range c.rules[service].Failover {
		if len(set) == 0 {
			c.addPorts(set, standby)
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func (c *Catalog) addPorts(set map[uint16]bool, service identity.Name) {
	for _, i := range c.services[service] {
		if i.Port != 0 {
			set[i.Port] = true
		}
	}
}

// Tags lists the distinct tags of a service's instances, sorted.
func (c *Catalog) Tags(service identity.Name) []string {
	var out []string
	for _, i := range c.services[service] {
		out = append(out, i.Tags...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Settings are how callers choose among a service's instances, and when they try
// another one. Where instances differ, the first one in order that says something
// counts, so that all nodes agree.
func (c *Catalog) Settings(service identity.Name) (balance, retry string) {
	for _, i := range c.services[service] {
		balance, retry = cmp.Or(balance, i.Balance), cmp.Or(retry, i.Retry)
	}
	return balance, retry
}

// DefaultPort is the port of a service that has just one, else 0.
func (c *Catalog) DefaultPort(service identity.Name) uint16 {
	if ports := c.Ports(service); len(ports) == 1 {
		return ports[0]
	}
	return 0
}

// Port returns the registered port for VIRTUAL:dialled: the dialled one, or, for 80
// and 443, the only one; 0 for none.
func (c *Catalog) Port(service identity.Name, dialled uint16) uint16 {
	if slices.Contains(c.Ports(service), dialled) {
		return dialled
	}
	if dialled == 80 || dialled == 443 {
		return c.DefaultPort(service)
	}
	return 0
}

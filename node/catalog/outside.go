// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"net/netip"
	"slices"

	"tacit/identity"
)

// Endpoint is a port of a service.
type Endpoint struct {
	Service identity.Name
	Port    uint16
}

// Claims are the real names and addresses that services outside of the mesh stand
// for, as far as an operator has vouched for them.
type Claims struct {
	Hosts     map[string]identity.Name
	Addresses map[netip.AddrPort]Endpoint
	Problems  map[string]error // by name or address: vouched for nobody, or claimed twice
}

// sumClaims are those of all instances, in alphabetical order of the services.
func (c *Catalog) sumClaims(vouched func(node, service identity.Name) []string) Claims {
	out := Claims{Hosts: map[string]identity.Name{}, Addresses: map[netip.AddrPort]Endpoint{}, Problems: map[string]error{}}
	for _, name := range c.Services() {
		for _, in := range c.services[name] {
			if in.Outside != nil {
				out.add(in, vouched(in.Node, in.Service))
			}
		}
	}
	return out
}

func (c *Claims) add(in Instance, vouched []string) {
	for _, host := range in.Outside.Hosts {
		if c.holds(in, host, slices.Contains(vouched, host)) && c.free(host, c.Hosts[host], in.Service) {
			c.Hosts[host] = in.Service
		}
	}
	for _, text := range in.Outside.Addresses {
		at, err := netip.ParseAddrPort(text)
		if err == nil && c.holds(in, text, slices.Contains(vouched, text) || slices.Contains(vouched, at.Addr().String())) &&
			c.free(text, c.Addresses[at].Service, in.Service) {
			c.Addresses[at] = Endpoint{in.Service, in.Port}
		}
	}
}

// free reports whether a service may have what it claims: the first one in
// alphabetical order does.
func (c *Claims) free(what string, owner, service identity.Name) bool {
	if owner == "" || owner == service {
		return true
	}
	c.Problems[what] = fmt.Errorf("%s and %s both claim it: it is %s", owner, service, owner)
	return false
}

// holds reports whether an instance's claim counts. Where it doesn't, the
// instance's own node says so.
func (c *Claims) holds(in Instance, what string, vouched bool) bool {
	if !vouched && in.Here {
		c.Problems[what] = fmt.Errorf("no operator has vouched that %s is %s, so programs that use it go around the mesh; "+
			"on a node with an operator key: tacit node grant %s --service %s --outside %s", what, in.Service, in.Node, in.Service, what)
	}
	return vouched
}

// Claims are the real names and addresses of services outside of the mesh.
func (c *Catalog) Claims() Claims { return c.claims }

// Direct says whether this node reaches the instance by itself, without a lane.
func (in Instance) Direct() bool { return in.Here || in.Outside != nil && in.Outside.Anywhere }

// Find returns the instance of a service on a node by its port and id; "" is the
// first.
func (c *Catalog) Find(service, node identity.Name, port uint16, id string) (Instance, bool) {
	for _, in := range c.services[service] {
		if in.Node == node && in.Port == port && (id == "" || in.ID == id) {
			return in, true
		}
	}
	return Instance{}, false
}

// Outsiders are the instances outside of the mesh that this node reaches by itself.
func (c *Catalog) Outsiders() (out []Instance) {
	for _, name := range c.Services() {
		for _, in := range c.services[name] {
			if in.Outside != nil && in.Direct() {
				out = append(out, in)
			}
		}
	}
	return out
}

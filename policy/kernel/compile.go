// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"tacit/bpf"
	"tacit/identity"
	"tacit/policy"
)

// compiler turns one State into the contents of each map. A name that has no
// number is left out, which refuses its connections: no entry leads to number 0.
type compiler struct {
	State
	last       *State // as planned before
	numbers    Numbers
	stale      bool // the map that is compiled may lack something of last
	unnumbered bool // so far, a name of this map had no number
	err        error
}

// ErrNoNumber: a service has no number, so an intention about it is not in the
// kernel and its connections are refused. The next Apply tries again.
var ErrNoNumber = errors.New("the service has no number")

// CheckNumber is the number by which the kernel knows health checks, in an IPv4
// range of that many bits.
func CheckNumber(bits int) uint32 { return uint32(1)<<(32-bits) - 1 - bpf.Checks }

func (c *compiler) number(name identity.Name) uint32 {
	n := c.numbers.Number(name)
	c.unnumbered = c.unnumbered || n == 0
	return n
}

// intentions skips the work for an unchanged table, which can have 100,000 rules.
func (c *compiler) intentions() map[bpf.Pair]bool {
	if !c.stale && c.Table == c.last.Table && slices.Equal(c.Own, c.last.Own) && slices.Equal(c.Aliases, c.last.Aliases) {
		return nil
	}
	rules := c.aliased(append(c.Table.List(), c.Own...))
	c.numbers.Assign(endpoints(rules))
	out := make(map[bpf.Pair]bool, len(rules))
	for _, i := range rules {
		src, dst := c.endpoint(i.Source), c.endpoint(i.Destination)
		if src != 0 && dst != 0 {
			out[bpf.Pair{Source: src, Destination: dst}] = i.Action == policy.Allow
		} else if c.err == nil {
			c.err = fmt.Errorf("intention %s -> %s: %w", i.Source, i.Destination, ErrNoNumber)
		}
	}
	return out
}

// aliased adds for each rule about a service that has aliases one about each alias.
func (c *compiler) aliased(rules []policy.Intention) []policy.Intention {
	aliases := map[identity.Name][]identity.Name{}
	for _, a := range c.Aliases {
		aliases[a.Service] = append(aliases[a.Service], a.Name)
	}
	for _, i := range rules {
		for _, name := range aliases[i.Destination] {
			i.Destination = name
			rules = append(rules, i)
		}
	}
	return rules
}

// endpoints are the services that rules name.
func endpoints(rules []policy.Intention) []identity.Name {
	out := make([]identity.Name, 0, 2*len(rules))
	for _, i := range rules {
		out = append(out, i.Source, i.Destination)
	}
	return slices.DeleteFunc(out, func(name identity.Name) bool { return name == policy.Any })
}

func (c *compiler) endpoint(name identity.Name) uint32 {
	if name == policy.Any {
		return bpf.Any
	}
	return c.number(name)
}

func (c *compiler) workloads() map[uint64]uint32 {
	return callers(c, c.Workloads.Cgroups, c.Exempt.Cgroups)
}

func (c *compiler) namespaces() map[uint64]uint32 { return callers(c, c.Workloads.Namespaces, nil) }

func (c *compiler) users() map[uint32]uint32 {
	return callers(c, c.Workloads.Users, c.Exempt.Users)
}

func (c *compiler) interfaces() map[uint32]uint32 { return callers(c, c.Workloads.Interfaces, nil) }

// callers gives each caller the number of its service. A workload that is
// exempt as well counts as a workload.
func callers[K comparable](c *compiler, workloads map[K]identity.Name, exempt []K) map[K]uint32 {
	out := make(map[K]uint32, len(workloads)+len(exempt))
	for _, id := range exempt {
		out[id] = bpf.Exempt
	}
	for id, name := range workloads {
		if n := c.number(name); n != 0 {
			out[id] = n
		} else {
			delete(out, id)
		}
	}
	return out
}

// ports adds two things to the registered ports: port 0 as the mark that the
// service is known, and 80 and 443 for a service with a single port, unless
// that is one of them.
func (c *compiler) ports() map[bpf.PortKey]bpf.Port {
	out := make(map[bpf.PortKey]bpf.Port, 4*len(c.Endpoints))
	count := make(map[uint32]int, len(c.Endpoints))
	for _, e := range c.Endpoints {
		if n := c.number(e.Service); n != 0 {
			count[n]++
			out[bpf.PortKey{Service: n}] = bpf.Port{}
			out[bpf.PortKey{Service: n, Port: e.Port}] = e.port()
		}
	}
	for _, e := range c.Endpoints {
		if n := c.number(e.Service); count[n] == 1 {
			out[bpf.PortKey{Service: n, Port: 80}], out[bpf.PortKey{Service: n, Port: 443}] = e.port(), e.port()
		}
	}
	return out
}

func (e Endpoint) port() bpf.Port {
	return bpf.Port{Local: e.Local, Remote: e.Remote, Anyone: e.Anyone, Loopback: e.Loopback}
}

// guards keeps a port guarded even where its service has no number: number 0
// is refused to everybody.
func (c *compiler) guards() map[uint16]bpf.Guard {
	out := make(map[uint16]bpf.Guard, len(c.Guards))
	for _, g := range c.Guards {
		guard := g.guard()
		if g.Service != "" {
			guard.Service = c.number(g.Service)
		}
		out[g.Port] = guard
	}
	return out
}

func (g Guard) guard() bpf.Guard {
	return bpf.Guard{Permissive: g.Permissive, Anyone: g.Anyone, Serving: g.Serving, Loopback: g.Loopback, Carried: g.Carried}
}

func (c *compiler) innerGuards() map[bpf.PortKey]bpf.Guard {
	out := make(map[bpf.PortKey]bpf.Guard, len(c.InnerGuards))
	for _, g := range c.InnerGuards {
		if n := c.number(g.Service); n != 0 {
			out[bpf.PortKey{Service: n, Port: g.Port}] = g.guard()
		}
	}
	return out
}

func (c *compiler) remotes() map[netip.AddrPort]uint32 {
	out := make(map[netip.AddrPort]uint32, len(c.Remotes))
	for _, r := range slices.Concat(c.InnerAddrs, c.Remotes) {
		if n := c.number(r.Service); n != 0 {
			out[r.Addr] = n
		}
	}
	return out
}

func (c *compiler) upstreams() map[bpf.UpstreamKey]bpf.Upstream {
	out := make(map[bpf.UpstreamKey]bpf.Upstream, 2*len(c.Upstreams))
	for _, u := range c.Upstreams {
		src, dst := uint32(0), c.number(u.Destination)
		if u.Service != "" {
			src = c.number(u.Service)
		}
		if dst == 0 || (src == 0) != (u.Service == "") {
			continue
		}
		for _, at := range binds(u.Bind) {
			out[bpf.UpstreamKey{Service: src, Bind: at}] = bpf.Upstream{Destination: dst, Port: u.Port}
		}
	}
	return out
}

// binds returns the addresses by which a program may call an upstream:
// localhost is both 127.0.0.1 and ::1.
func binds(at netip.AddrPort) []netip.AddrPort {
	v4, v6 := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
	if a := at.Addr().Unmap(); a == v4 || a == v6 || a.IsUnspecified() {
		return []netip.AddrPort{netip.AddrPortFrom(v4, at.Port()), netip.AddrPortFrom(v6, at.Port())}
	}
	return []netip.AddrPort{netip.AddrPortFrom(at.Addr().Unmap(), at.Port())}
}

func (c *compiler) locals() map[netip.Addr]uint32 { return set(c.Locals, netip.Addr.Unmap) }

func (c *compiler) exemptPorts() map[uint16]uint32 { return set(c.Exempt.Ports, same) }

func (c *compiler) exemptNets() map[netip.Prefix]uint32 {
	return set(c.Exempt.Nets, netip.Prefix.Masked)
}

func (c *compiler) exemptPeers() map[netip.AddrPort]uint32 { return set(c.ExemptPeers, same) }

func (c *compiler) names() map[string]uint32 {
	out := make(map[string]uint32, len(c.Hosts)+len(c.Domains))
	for _, name := range c.Hosts {
		out[name] = bpf.NameLength(name)
	}
	for _, name := range c.Domains {
		out[name] = 0
	}
	return out
}

func same[T any](v T) T { return v }

func set[T, K comparable](list []T, key func(T) K) map[K]uint32 {
	out := make(map[K]uint32, len(list))
	for _, v := range list {
		out[key(v)] = 1
	}
	return out
}

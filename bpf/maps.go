// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// Any stands for every service in intentions.
const Any = ^uint32(0)

// Pair is a source and a destination.
type Pair struct{ Source, Destination uint32 }

// PortKey is a service's port; port 0 says that the service is known.
type PortKey struct {
	Service uint32
	Port    uint16
}

// Port says where a service's port leads.
type Port struct {
	Local  netip.AddrPort // zero: no instance here
	Remote bool
	Anyone bool // whose socket listens at Local isn't looked at
}

// Guard is what a port of this node belongs to.
type Guard struct {
	Service    uint32
	Permissive bool
	Anyone     bool // whoever listens there, and whoever binds it
	Serving    bool // no connection has that port but accepted ones
}

func (g Guard) flags() (out meshGuardFlag) {
	for flag, set := range map[meshGuardFlag]bool{
		meshGuardFlagGUARD_PERMISSIVE: g.Permissive, meshGuardFlagGUARD_ANYONE: g.Anyone, meshGuardFlagGUARD_SERVING: g.Serving,
	} {
		if set {
			out |= flag
		}
	}
	return out
}

// Exempt stands in the place of a service for who is left alone.
const Exempt = Any - 2

// UpstreamKey is a loopback address that a workload may call.
type UpstreamKey struct {
	Service uint32
	Bind    netip.AddrPort
}

// Upstream is what it means.
type Upstream struct {
	Destination uint32
	Port        uint16
}

func full(name string, err error) error {
	if errors.Is(err, syscall.E2BIG) || errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("map %s: %w", name, ErrFull)
	}
	return fmt.Errorf("map %s: %w", name, err)
}

// Workloads maps cgroup ids to services.
func (o *Objects) Workloads() Table[uint64, uint32] {
	return table("workloads", o.mesh.Workloads, same[uint64](), services())
}

// Namespaces maps network namespaces, by cookie, to services.
func (o *Objects) Namespaces() Table[uint64, uint32] {
	return table("namespaces", o.mesh.Namespaces, same[uint64](), services())
}

// Users maps uids to services.
func (o *Objects) Users() Table[uint32, uint32] {
	return table("users", o.mesh.Users, same[uint32](), services())
}

// Interfaces maps interfaces, by index, to the service that all which comes in by them is.
func (o *Objects) Interfaces() Table[uint32, uint32] {
	return table("interfaces", o.mesh.Interfaces, same[uint32](), services())
}

func services() form[uint32, meshWorkload] {
	return form[uint32, meshWorkload]{
		func(n uint32) meshWorkload { return meshWorkload{Service: n} },
		func(w meshWorkload) uint32 { return w.Service },
	}
}

// Intentions maps pairs to whether they are allowed.
func (o *Objects) Intentions() Table[Pair, bool] {
	return table("intentions", o.mesh.Intentions,
		form[Pair, meshPair]{
			func(p Pair) meshPair { return meshPair{Source: p.Source, Destination: p.Destination} },
			func(p meshPair) Pair { return Pair{p.Source, p.Destination} },
		},
		form[bool, meshAction]{
			action,
			func(a meshAction) bool { return a == meshActionACTION_ALLOW },
		})
}

// Ports says where VIRTUAL:port leads.
func (o *Objects) Ports() Table[PortKey, Port] {
	return table("ports", o.mesh.Ports,
		form[PortKey, meshPortKey]{
			func(k PortKey) meshPortKey { return meshPortKey{Service: k.Service, Port: swap(k.Port)} },
			func(k meshPortKey) PortKey { return PortKey{k.Service, swap(k.Port)} },
		},
		form[Port, meshPortValue]{
			func(p Port) meshPortValue {
				return meshPortValue{Local: toEndpoint(p.Local), Remote: flag(p.Remote), Anyone: flag(p.Anyone)}
			},
			func(v meshPortValue) Port { return Port{fromEndpoint(v.Local), v.Remote != 0, v.Anyone != 0} },
		})
}

// Guards maps ports of this node to the services that they belong to.
func (o *Objects) Guards() Table[uint16, Guard] {
	return table("guards", o.mesh.Guards,
		portNumbers(),
		form[Guard, meshGuardValue]{
			func(g Guard) meshGuardValue { return meshGuardValue{Service: g.Service, Flags: g.flags()} },
			func(v meshGuardValue) Guard {
				has := func(f meshGuardFlag) bool { return v.Flags&f != 0 }
				return Guard{v.Service, has(meshGuardFlagGUARD_PERMISSIVE), has(meshGuardFlagGUARD_ANYONE), has(meshGuardFlagGUARD_SERVING)}
			},
		})
}

func portNumbers() form[uint16, meshGuardKey] {
	return form[uint16, meshGuardKey]{
		func(p uint16) meshGuardKey { return meshGuardKey{Port: swap(p)} },
		func(k meshGuardKey) uint16 { return swap(k.Port) },
	}
}

// ExemptPorts is the set of ports elsewhere that are left alone.
func (o *Objects) ExemptPorts() Table[uint16, uint32] {
	return table("exempt_ports", o.mesh.ExemptPorts, portNumbers(), same[uint32]())
}

// ExemptNets is the set of addresses elsewhere that are left alone.
func (o *Objects) ExemptNets() Table[netip.Prefix, uint32] {
	return table("exempt_nets", o.mesh.ExemptNets, form[netip.Prefix, meshNetKey]{toNet, fromNet}, same[uint32]())
}

// ExemptPeers is the set of remote ends of exempt connections: plain ones that
// were there before their port got its guard, and that no sweep cuts.
func (o *Objects) ExemptPeers() Table[netip.AddrPort, uint32] {
	return table("exempt_peers", o.mesh.ExemptPeers, endpoints(), same[uint32]())
}

// Names is the set of names that no query may ask other resolvers for. The
// value is [NameLength], or 0 for a domain with all that is below it.
func (o *Objects) Names() Table[string, uint32] {
	return table("names", o.mesh.Names, form[string, meshNameKey]{toName, fromName}, same[uint32]())
}

// Remotes maps real addresses of instances elsewhere to their services.
func (o *Objects) Remotes() Table[netip.AddrPort, uint32] {
	return table("remotes", o.mesh.Remotes, endpoints(), same[uint32]())
}

// Upstreams maps what explicit upstreams mean.
func (o *Objects) Upstreams() Table[UpstreamKey, Upstream] {
	return table("upstreams", o.mesh.Upstreams,
		form[UpstreamKey, meshUpstreamKey]{
			func(k UpstreamKey) meshUpstreamKey {
				return meshUpstreamKey{Bind: toEndpoint(k.Bind), Service: k.Service}
			},
			func(k meshUpstreamKey) UpstreamKey { return UpstreamKey{k.Service, fromEndpoint(k.Bind)} },
		},
		form[Upstream, meshUpstreamValue]{
			func(u Upstream) meshUpstreamValue {
				return meshUpstreamValue{Destination: u.Destination, Port: swap(u.Port)}
			},
			func(v meshUpstreamValue) Upstream { return Upstream{v.Destination, swap(v.Port)} },
		})
}

// Locals is the set of this node's own addresses.
func (o *Objects) Locals() Table[netip.Addr, uint32] {
	return table("locals", o.mesh.Locals, addresses(), same[uint32]())
}

func addresses() form[netip.Addr, meshAddress] {
	return form[netip.Addr, meshAddress]{toAddress, fromAddress}
}

func endpoints() form[netip.AddrPort, meshEndpoint] {
	return form[netip.AddrPort, meshEndpoint]{toEndpoint, fromEndpoint}
}

func action(allow bool) meshAction {
	if allow {
		return meshActionACTION_ALLOW
	}
	return meshActionACTION_DENY
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

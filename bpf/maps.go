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
}

// Guard is what a port of this node belongs to.
type Guard struct {
	Service    uint32
	Permissive bool
}

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
	return table("workloads", o.mesh.Workloads, same[uint64](), form[uint32, meshWorkload]{
		func(n uint32) meshWorkload { return meshWorkload{Service: n} },
		func(w meshWorkload) uint32 { return w.Service },
	})
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
			func(p Port) meshPortValue { return meshPortValue{Local: toEndpoint(p.Local), Remote: flag(p.Remote)} },
			func(v meshPortValue) Port { return Port{fromEndpoint(v.Local), v.Remote != 0} },
		})
}

// Guards maps ports of this node to the services that they belong to.
func (o *Objects) Guards() Table[uint16, Guard] {
	return table("guards", o.mesh.Guards,
		form[uint16, meshGuardKey]{
			func(p uint16) meshGuardKey { return meshGuardKey{Port: swap(p)} },
			func(k meshGuardKey) uint16 { return swap(k.Port) },
		},
		form[Guard, meshGuardValue]{
			func(g Guard) meshGuardValue {
				return meshGuardValue{Service: g.Service, Permissive: flag(g.Permissive)}
			},
			func(v meshGuardValue) Guard { return Guard{v.Service, v.Permissive != 0} },
		})
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

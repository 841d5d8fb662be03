// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// Numbers that stand in the place of a service.
const (
	Any    = uint32(meshSpecialANY_SERVICE)      // every service, in intentions
	Exempt = uint32(meshSpecialEXEMPT_SERVICE)   // a caller that the hooks leave alone
	Checks = uint32(meshReservedRESERVED_CHECKS) // how far the number of the health checks is below the last one

	daemonService = uint32(meshSpecialDAEMON_SERVICE) // creator of the daemon's own sockets
)

// MaxDepth is how many cgroup levels below the hooked root are searched for
// workloads. Callers that are deeper are refused.
const MaxDepth = uint32(meshDepthMAX_DEPTH)

// Pair is a source and a destination.
type Pair struct{ Source, Destination uint32 }

// PortKey is a port of a service. Port 0 marks that the service exists.
type PortKey struct {
	Service uint32
	Port    uint16
}

// Port is where a port of a service leads.
type Port struct {
	Local    netip.AddrPort // zero: no instance on this node
	Remote   bool           // another node has an instance
	Anyone   bool           // the creator of the socket that listens at Local is not checked
	Loopback bool           // callers on this node keep their own address
}

// Guard is the service that a port of this node belongs to.
type Guard struct {
	Service    uint32
	Permissive bool // plain connections are let in
	Anyone     bool // neither the creator of the listening socket nor who binds the port is checked
	Serving    bool // every connection with that local port was accepted there
	Loopback   bool // callers on this node keep their own address
	Carried    bool // callers on this node go through the daemon
}

// places are where a Guard holds each flag.
func (g *Guard) places() map[meshGuardFlag]*bool {
	return map[meshGuardFlag]*bool{
		meshGuardFlagGUARD_PERMISSIVE: &g.Permissive, meshGuardFlagGUARD_ANYONE: &g.Anyone, meshGuardFlagGUARD_SERVING: &g.Serving,
		meshGuardFlagGUARD_LOOPBACK: &g.Loopback, meshGuardFlagGUARD_CARRIED: &g.Carried,
	}
}

func (g Guard) flags() (out meshGuardFlag) {
	for flag, set := range g.places() {
		if *set {
			out |= flag
		}
	}
	return out
}

func guardOf(flags meshGuardFlag) (g Guard) {
	for flag, set := range g.places() {
		*set = flags&flag != 0
	}
	return g
}

// UpstreamKey is a loopback address at which a workload calls an upstream.
type UpstreamKey struct {
	Service uint32
	Bind    netip.AddrPort
}

// Upstream is the service and port that the address stands for.
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

// Interfaces maps ingress interfaces, by index, to the service that calls from there.
func (o *Objects) Interfaces() Table[uint32, uint32] {
	return table("interfaces", o.mesh.Interfaces, same[uint32](), services())
}

func services() form[uint32, meshWorkload] {
	return form[uint32, meshWorkload]{
		func(n uint32) meshWorkload { return meshWorkload{Service: n} },
		func(w meshWorkload) uint32 { return w.Service },
	}
}

// Intentions maps pairs to true for allow and false for deny.
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

// Ports says where a service's virtual address and port lead.
func (o *Objects) Ports() Table[PortKey, Port] {
	return table("ports", o.mesh.Ports,
		portKeys(),
		form[Port, meshPortValue]{
			func(p Port) meshPortValue {
				flags := Guard{Anyone: p.Anyone, Loopback: p.Loopback}.flags()
				return meshPortValue{Local: toEndpoint(p.Local), Remote: flag(p.Remote), Flags: flags}
			},
			func(v meshPortValue) Port {
				g := guardOf(v.Flags)
				return Port{Local: fromEndpoint(v.Local), Remote: v.Remote != 0, Anyone: g.Anyone, Loopback: g.Loopback}
			},
		})
}

func portKeys() form[PortKey, meshPortKey] {
	return form[PortKey, meshPortKey]{
		func(k PortKey) meshPortKey { return meshPortKey{Service: k.Service, Port: swap(k.Port)} },
		func(k meshPortKey) PortKey { return PortKey{k.Service, swap(k.Port)} },
	}
}

// Guards maps ports of this node to the services that own them.
func (o *Objects) Guards() Table[uint16, Guard] {
	return table("guards", o.mesh.Guards,
		portNumbers(),
		guardValues())
}

func guardValues() form[Guard, meshGuardValue] {
	return form[Guard, meshGuardValue]{
		func(g Guard) meshGuardValue { return meshGuardValue{Service: g.Service, Flags: g.flags()} },
		func(v meshGuardValue) Guard {
			g := guardOf(v.Flags)
			g.Service = v.Service
			return g
		},
	}
}

// InnerGuards maps the ports on which services of this node listen in other network
// namespaces. The service of a value is not used.
func (o *Objects) InnerGuards() Table[PortKey, Guard] {
	return table("inner_guards", o.mesh.InnerGuards, portKeys(), guardValues())
}

func portNumbers() form[uint16, meshGuardKey] {
	return form[uint16, meshGuardKey]{
		func(p uint16) meshGuardKey { return meshGuardKey{Port: swap(p)} },
		func(k meshGuardKey) uint16 { return swap(k.Port) },
	}
}

// ExemptPorts is the set of ports of other hosts that the hooks leave alone.
func (o *Objects) ExemptPorts() Table[uint16, uint32] {
	return table("exempt_ports", o.mesh.ExemptPorts, portNumbers(), same[uint32]())
}

// ExemptNets is the set of addresses of other hosts that the hooks leave alone.
func (o *Objects) ExemptNets() Table[netip.Prefix, uint32] {
	return table("exempt_nets", o.mesh.ExemptNets, form[netip.Prefix, meshNetKey]{toNet, fromNet}, same[uint32]())
}

// ExemptPeers is the set of remote ends of exempt connections: plain connections
// that are older than the guard of their port and that no sweep cuts.
func (o *Objects) ExemptPeers() Table[netip.AddrPort, uint32] {
	return table("exempt_peers", o.mesh.ExemptPeers, endpoints(), same[uint32]())
}

// Names is the set of names for which no DNS query may leave the host. The value
// is [NameLength] for one name, or 0 for a domain and the names below it.
func (o *Objects) Names() Table[string, uint32] {
	return table("names", o.mesh.Names, form[string, meshNameKey]{toName, fromName}, same[uint32]())
}

// Remotes maps real addresses of instances on other nodes to their services.
func (o *Objects) Remotes() Table[netip.AddrPort, uint32] {
	return table("remotes", o.mesh.Remotes, endpoints(), same[uint32]())
}

// Upstreams maps the loopback addresses of explicit upstreams to services.
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

// Locals is the set of this node's own addresses, besides loopback.
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

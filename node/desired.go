// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/kernel"
)

// desired is the kernel's state as the present picture wants it.
func (n *Node) desired() kernel.State {
	local, cat := n.local.Load(), n.catalog.Load()
	s := kernel.State{Table: n.table.Load(), Workloads: n.workloads(local), Locals: n.localAddrs(), Guards: n.guards(local)}
	for _, svc := range cat.Services() {
		s.Endpoints = append(s.Endpoints, endpoints(cat, local, svc)...)
		for _, in := range cat.Instances(svc) {
			if !in.Here && in.Port != 0 {
				s.Remotes = append(s.Remotes, kernel.Remote{Addr: in.Addr, Service: svc})
			}
		}
	}
	for _, svc := range local.services {
		if !n.member.ledger.Granted(n.cfg.name, svc.Name) {
			continue
		}
		s.Upstreams = append(s.Upstreams, upstreams(cat, svc)...)
	}
	return s
}

// guards closes the ports of all services defined here, granted or not. Where
// two claim one port, strict wins over permissive, and of two services neither
// gets it.
func (n *Node) guards(local *localView) []kernel.Guard {
	byPort, clashes := map[uint16]kernel.Guard{}, map[string]error{}
	for _, svc := range local.services {
		g := kernel.Guard{Port: svc.Port, Service: svc.Name, Permissive: svc.Permissive}
		if old, taken := byPort[g.Port]; taken {
			g.Permissive = g.Permissive && old.Permissive
			if old.Service != g.Service {
				clashes[strconv.Itoa(int(g.Port))] = fmt.Errorf("%s and %s both define it: neither is served there", old.Service, g.Service)
				g.Service = "" // nobody's: refused
			}
		}
		if g.Port != 0 {
			byPort[g.Port] = g
		}
	}
	n.problems.replace("port", clashes)
	return slices.Collect(maps.Values(byPort))
}

// workloads numbers every cgroup that is a workload now. A cgroup claimed by
// two services belongs to neither: which one it is can't be told.
func (n *Node) workloads(local *localView) map[uint64]identity.Name {
	out, twice, clashes := map[uint64]identity.Name{}, map[uint64]bool{}, map[string]error{}
	for _, svc := range local.services {
		if !n.member.ledger.Granted(n.cfg.name, svc.Name) {
			continue
		}
		if svc.Workload.UID != nil || svc.Workload.NetNS != "" {
			clashes[string(svc.Name)] = fmt.Errorf("%s: workloads by uid or netns are not recognised by this version; use cgroup, systemd_unit or container", svc.Source)
		}
		for _, path := range svc.cgroups {
			id, err := workload.ID(path)
			if err != nil {
				continue
			}
			if other, taken := out[id]; taken && other != svc.Name {
				clashes[path] = refuse(policy.ReasonIdentity, "%s and %s both claim %s", other, svc.Name, path)
				twice[id] = true
			}
			out[id] = svc.Name
		}
	}
	for id := range twice {
		delete(out, id)
	}
	n.problems.replace("workload", clashes)
	return out
}

// endpoints says for each port of a service whether it is reached here or elsewhere.
func endpoints(cat *catalog.Catalog, local *localView, svc identity.Name) []kernel.Endpoint {
	var out []kernel.Endpoint
	for _, port := range cat.Ports(svc) {
		e := kernel.Endpoint{Service: svc, Port: port}
		for _, in := range cat.Instances(svc) {
			if in.Port != port || !in.Alive {
				continue
			}
			if !in.Here {
				e.Remote = true
				continue
			}
			if s, ok := local.find(svc, port, in.ID); ok && s.listener.state != listenerForeign {
				e.Local = s.target()
			}
		}
		if e.Remote || e.Local.IsValid() {
			out = append(out, e)
		}
	}
	return out
}

// target is where the instance is dialled; while nobody listens it is where
// somebody would, so that the caller is refused by the port itself.
func (s localService) target() netip.AddrPort {
	if s.listener.addr.IsValid() {
		return s.listener.addr
	}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if own, err := netip.ParseAddr(s.Address); err == nil {
		addr = own
	}
	return netip.AddrPortFrom(addr, s.Port)
}

func upstreams(cat *catalog.Catalog, svc localService) []kernel.Upstream {
	var out []kernel.Upstream
	for _, u := range svc.Upstreams {
		port := cat.DefaultPort(u.Destination)
		if ports := cat.Ports(u.Destination); port == 0 && len(ports) > 0 {
			port = ports[0]
		}
		out = append(out, kernel.Upstream{Service: svc.Name, Bind: u.Bind, Destination: u.Destination, Port: port})
	}
	return out
}

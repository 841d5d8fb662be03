// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/policy/kernel"
)

// desired is the kernel's state as the present picture wants it.
func (n *Node) desired(cat *catalog.Catalog) kernel.State {
	local := n.local.Load()
	s := kernel.State{Table: n.table.Load(), Workloads: n.workloads(local), Locals: n.localAddrs(), Guards: n.guards(local)}
	s.Domains, s.Hosts = n.meshNames(cat)
	x := n.excluded
	for _, c := range n.spared() {
		s.Spared = append(s.Spared, c.Remote)
	}
	s.Exempt = kernel.Exempt{Cgroups: x.cgroups, Users: x.uids, Ports: x.ports, Nets: x.cidrs}
	for _, svc := range cat.Services() {
		s.Endpoints = append(s.Endpoints, endpoints(cat, local, svc)...)
		for _, in := range cat.Instances(svc) {
			if in.Here || in.Port == 0 {
				continue
			}
			for _, addr := range n.presence.of(in) {
				s.Remotes = append(s.Remotes, kernel.Remote{Addr: netip.AddrPortFrom(addr, in.Port), Service: svc})
			}
		}
	}
	for _, svc := range local.services {
		if !n.member.ledger.Granted(n.cfg.name, svc.Name) {
			continue
		}
		s.Upstreams = append(s.Upstreams, upstreams(cat, svc)...)
	}
	n.problems.set("remotes", n.keep(setRemotes, s.Remotes))
	n.trials.enrol(&s)
	return s
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
				e.Local, e.Anyone = s.target(), s.listener.anyone
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

// SPDX-License-Identifier: Apache-2.0

// Package reconcile makes the kernel equal to what is defined, granted and
// intended. Compile says what the kernel shall hold; Loop is the only place
// where it is written, instances are published and connections are judged
// again. It must not examine the host: it is told what is there.
package reconcile

import (
	"errors"
	"net/netip"
	"slices"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/config"
	"tacit/node/definition"
	"tacit/node/health"
	"tacit/node/inventory"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/policy/resolver"
)

// Input is everything that the kernel's state follows from.
type Input struct {
	View    *inventory.View
	Table   *policy.Table
	Catalog *catalog.Catalog
	// Granted reports whether this node may run a service.
	Granted func(identity.Name) bool
	// Proven returns the addresses at which an instance elsewhere is called.
	Proven func(catalog.Instance) []netip.Addr
	// Foreign says why an address can't be that of a service outside of the mesh.
	Foreign   func(netip.Addr) error
	Addresses []netip.Addr // this host's own
	// Names returns the DNS names that no other resolver may be asked for, from the
	// tags of all services: domains with all names below them, and single names.
	// crowded: the services' names are too many, so more is kept in.
	Names     func(tags map[identity.Name][]string) (domains, hosts []string, crowded bool)
	Exclude   config.Exclude
	Ephemeral Ports // that the kernel gives to sockets which ask for none
}

// Ports is a range, both ends included.
type Ports struct{ Low, High int }

// Findings are problems that a compilation found, by family and thing. A
// family without problems has an entry too.
type Findings map[health.Family]map[string]error

// Compile computes the kernel's state. It has no side effects.
func Compile(in Input) (kernel.State, Findings) {
	found := Findings{}
	s := kernel.State{Table: in.Table, Locals: in.Addresses, ExemptPeers: in.View.ExemptPeers}
	s.Workloads, found[health.Workload] = in.View.Workloads(in.Granted)
	s.Guards, found[health.Port] = in.View.Guards(in.Ephemeral.Low, in.Ephemeral.High)
	carrySplit(in.Catalog, s.Guards)
	s.InnerGuards, s.InnerAddrs = in.View.InnerGuards(in.Ephemeral.Low, in.Ephemeral.High), in.View.InnerAddrs()
	s.Exempt, found[health.Excluded] = in.View.Exclusions(in.Exclude)
	s.Domains, s.Hosts, found[health.Names] = names(in)
	found[health.Outside] = outsiders(in, &s)
	callers := s.Workloads.Names()
	for _, service := range in.Catalog.Services() {
		s.Endpoints = append(s.Endpoints, endpoints(in, service, callers)...)
		addSubsets(&s, in, service, callers)
		s.Remotes = append(s.Remotes, remotes(in, service)...)
	}
	for _, service := range in.View.Services {
		if in.Granted(service.Name) {
			s.Upstreams = append(s.Upstreams, upstreams(in.Catalog, service)...)
		}
	}
	return s, found
}

// names are those that no other resolver may be asked for.
func names(in Input) (domains, hosts []string, found map[string]error) {
	tags := map[identity.Name][]string{}
	for _, service := range in.Catalog.Services() {
		if service.IsIngress() { // nobody looks one up
			continue
		}
		tags[service] = in.Catalog.Tags(service)
		for _, subset := range in.Catalog.Subsets(service) {
			tags[service] = append(tags[service], string(subset))
		}
	}
	domains, hosts, crowded := in.Names(tags)
	if crowded {
		found = map[string]error{"": errCrowded}
	}
	return domains, hosts, found
}

var errCrowded = errors.New("the services have more names below consul than the kernel's map has room for, so no query for a name below consul leaves this host")

// endpoints says for each port of a service whether an instance that serves is here,
// elsewhere, or both. Where there is neither, the port is known all the same, so
// that calls are refused for want of an instance.
func endpoints(in Input, service identity.Name, callers []identity.Name) []kernel.Endpoint {
	var out []kernel.Endpoint
	for _, port := range in.Catalog.Ports(service) {
		e := kernel.Endpoint{Service: service, Port: port}
		mixed := in.Catalog.Mixed(service, port)
		for _, instance := range in.Catalog.Instances(service) {
			if instance.Port != port || !in.Catalog.Serves(instance) {
				continue
			}
			if !instance.Here || mixed || instance.Outside != nil { // the daemon carries the connection
				e.Remote = true
				continue
			}
			if s, ok := in.View.Find(service, port, instance.ID); ok && s.Listener.Serves() {
				e = reachedHere(e, s)
			}
		}
		if !e.Remote && !e.Local.IsValid() {
			e.Remote = stoodIn(in, service, port, callers)
		}
		out = append(out, e)
	}
	return out
}

// addSubsets adds the subsets of a service, to which the daemon carries all calls.
func addSubsets(s *kernel.State, in Input, service identity.Name, callers []identity.Name) {
	for _, subset := range in.Catalog.Subsets(service) {
		alias := kernel.Alias{Name: resolver.NameOf(subset, service), Service: service}
		s.Aliases = append(s.Aliases, alias)
		for _, port := range in.Catalog.Ports(service) {
			serves := in.Catalog.SubsetServes(service, subset, port) || stoodIn(in, service, port, callers)
			s.Endpoints = append(s.Endpoints, kernel.Endpoint{Service: alias.Name, Port: port, Remote: serves})
		}
	}
}

// stoodIn says whether another service answers for a port, and some caller on this
// node may call it. Which one may is decided for each connection, by the daemon.
func stoodIn(in Input, service identity.Name, port uint16, callers []identity.Name) bool {
	return slices.ContainsFunc(in.Catalog.Standby(service, port), func(standby identity.Name) bool {
		return slices.ContainsFunc(callers, func(caller identity.Name) bool { return in.Table.Decide(caller, standby).Allowed })
	})
}

// carrySplit has calls to a port of this node whose service is split go through the
// daemon, whose choice they get.
func carrySplit(cat *catalog.Catalog, guards []kernel.Guard) {
	for i, g := range guards {
		if rules, ok := cat.Rules(g.Service); ok && len(rules.Split) > 0 {
			guards[i].Carried, guards[i].Loopback = true, false
		}
	}
}

// reachedHere adds an instance on this node. One that the daemon must carry
// connections to, because it writes a header first or enters another network
// namespace, is as if it were elsewhere.
func reachedHere(e kernel.Endpoint, s inventory.Service) kernel.Endpoint {
	if s.ClientAddress == definition.ClientProxyProtocol || s.Place != "" {
		e.Remote = true
		return e
	}
	e.Local, e.Anyone = s.Listener.Addr, s.Listener.Anyone
	e.Loopback = s.ClientAddress == definition.ClientLoopback
	return e
}

// remotes are the real addresses of a service's instances on other nodes.
func remotes(in Input, service identity.Name) []kernel.Remote {
	var out []kernel.Remote
	for _, instance := range in.Catalog.Instances(service) {
		if instance.Here || instance.Port == 0 || instance.Outside != nil || instance.Place != "" { // its node's address isn't its own
			continue
		}
		for _, addr := range in.Proven(instance) {
			out = append(out, kernel.Remote{Addr: netip.AddrPortFrom(addr, instance.Port), Service: service})
		}
	}
	return out
}

func upstreams(cat *catalog.Catalog, s inventory.Service) []kernel.Upstream {
	var out []kernel.Upstream
	for _, u := range s.Upstreams {
		port := cat.DefaultPort(u.Destination)
		if ports := cat.Ports(u.Destination); port == 0 && len(ports) > 0 {
			port = ports[0]
		}
		out = append(out, kernel.Upstream{Service: s.Name, Bind: u.Bind, Destination: u.Destination, Port: port})
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"maps"
	"net/netip"
	"slices"

	"tacit/identity"
	"tacit/policy"
)

// State is what the maps shall hold.
type State struct {
	Table       *policy.Table
	Own         []policy.Intention // the node's own rules, which are in no table
	Aliases     []Alias
	Workloads   Workloads
	Endpoints   []Endpoint // where a service's virtual address and port lead
	Guards      []Guard    // service ports of this node
	InnerGuards []Guard    // ports on which services of this node listen in other network namespaces
	Remotes     []Remote   // real addresses of instances on other nodes
	InnerAddrs  []Remote   // real addresses of instances on this node, in other network namespaces
	Upstreams   []Upstream // explicit upstreams
	Locals      []netip.Addr
	Exempt      Exempt
	ExemptPeers []netip.AddrPort // remote ends of plain connections that outlive the guard of their port
	Domains     []string         // no query leaves the host for these domains and the names below them ...
	Hosts       []string         // ... nor for exactly these names
}

// equal compares two States: Apply does nothing for the one that it has applied.
// Tables are compared as pointers, since a Table is immutable.
func (s State) equal(o State) bool {
	return s.Table == o.Table && slices.Equal(s.Own, o.Own) && slices.Equal(s.Aliases, o.Aliases) &&
		s.Workloads.equal(o.Workloads) && slices.Equal(s.Endpoints, o.Endpoints) &&
		slices.Equal(s.Guards, o.Guards) && slices.Equal(s.Remotes, o.Remotes) &&
		slices.Equal(s.InnerGuards, o.InnerGuards) && slices.Equal(s.InnerAddrs, o.InnerAddrs) &&
		slices.Equal(s.Upstreams, o.Upstreams) && slices.Equal(s.Locals, o.Locals) &&
		s.Exempt.equal(o.Exempt) && slices.Equal(s.ExemptPeers, o.ExemptPeers) &&
		slices.Equal(s.Domains, o.Domains) && slices.Equal(s.Hosts, o.Hosts)
}

// Alias is a name with a virtual address of its own, for which the rules about a
// service hold: that of a subset.
type Alias struct{ Name, Service identity.Name }

// Workloads say which service a caller is. Cgroups count first, then network
// namespaces, then users.
type Workloads struct {
	Cgroups    map[uint64]identity.Name // by id
	Namespaces map[uint64]identity.Name // network namespaces, by cookie
	Users      map[uint32]identity.Name // by uid
	Interfaces map[uint32]identity.Name // by index: callers whose sockets no hook sees, such as virtual machines
}

func (w Workloads) equal(o Workloads) bool {
	return maps.Equal(w.Cgroups, o.Cgroups) && maps.Equal(w.Namespaces, o.Namespaces) &&
		maps.Equal(w.Users, o.Users) && maps.Equal(w.Interfaces, o.Interfaces)
}

// Names lists the services that callers on this node are, sorted.
func (w Workloads) Names() []identity.Name {
	all := slices.Concat(slices.Collect(maps.Values(w.Cgroups)), slices.Collect(maps.Values(w.Namespaces)),
		slices.Collect(maps.Values(w.Users)), slices.Collect(maps.Values(w.Interfaces)))
	slices.Sort(all)
	return slices.Compact(all)
}

// Exempt lists the callers and targets that the hooks leave alone.
type Exempt struct {
	Cgroups []uint64 // ids
	Users   []uint32 // uids
	Ports   []uint16 // of other hosts
	Nets    []netip.Prefix
}

func (e Exempt) any() bool { return len(e.Cgroups)+len(e.Users)+len(e.Ports)+len(e.Nets) > 0 }

func (e Exempt) equal(o Exempt) bool {
	return slices.Equal(e.Cgroups, o.Cgroups) && slices.Equal(e.Users, o.Users) &&
		slices.Equal(e.Ports, o.Ports) && slices.Equal(e.Nets, o.Nets)
}

// Endpoint is one port of a service.
type Endpoint struct {
	Service  identity.Name
	Port     uint16
	Local    netip.AddrPort // zero: no instance on this node
	Remote   bool           // another node has an instance
	Anyone   bool           // the creator of the socket that listens at Local is not checked
	Loopback bool           // callers on this node keep their own address
}

// Guard is a port of this node that belongs to a service.
type Guard struct {
	Port       uint16
	Service    identity.Name // "": of no service, refused to everybody
	Permissive bool          // plain connections are let in and counted
	Anyone     bool          // neither the creator of the listening socket nor who binds the port is checked
	Serving    bool          // every connection with that local port was accepted there
	Loopback   bool          // callers on this node keep their own address
	Carried    bool          // callers on this node go through the daemon
}

// Remote is the real address of an instance that isn't in the daemon's network
// namespace.
type Remote struct {
	Addr    netip.AddrPort
	Service identity.Name
}

// Upstream lets a workload call a loopback address for a service; or all workloads
// the real address of a service outside of the mesh.
type Upstream struct {
	Service     identity.Name // "": all, and Bind is a real address
	Bind        netip.AddrPort
	Destination identity.Name
	Port        uint16 // of the destination
}

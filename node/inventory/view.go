// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"tacit/identity"
	"tacit/node/definition"
	"tacit/node/workload"
	"tacit/redirect/netns"
)

// View is what one Look found. Immutable.
type View struct {
	Services    []Service         // in order of definition
	ExemptPeers []netip.AddrPort  // remote ends of plain connections that are never cut by an enrolment
	Excluded    map[string]uint64 // ids of the excluded cgroups that exist, by path

	once   sync.Once
	byID   map[string]int // index in Services, the first of each
	byPort map[uint16][]int
}

// Service is one instance, or one ingress, that is defined on this node. Immutable.
type Service struct {
	definition.Definition
	Cgroups    []workload.Cgroup // of its workload, those that exist
	Namespace  uint64            // cookie of the network namespace that is its workload; 0: none
	Interfaces []uint32          // by which its workload's packets come in, by index
	Unfound    map[string]error  // what selects its workload and can't be looked up, by name
	Users      []uint32          // of the programs in Cgroups, where users are excluded; unsorted
	Listener   Listener
	Place      string       // of Listener, for people: "container 0123456789ab"; "": the daemon's network namespace
	Addrs      []netip.Addr // with Place: by which this host reaches the instance directly

	home Listener // in the daemon's network namespace
}

// index is made at the first question.
func (v *View) index() {
	v.once.Do(func() {
		v.byID, v.byPort = make(map[string]int, len(v.Services)), make(map[uint16][]int, len(v.Services))
		for k, s := range v.Services {
			if _, earlier := v.byID[s.ID]; !earlier {
				v.byID[s.ID] = k
			}
			v.byPort[s.Port] = append(v.byPort[s.Port], k)
		}
	})
}

// Find returns the instance of service at port; id picks among several, ""
// takes the first.
func (v *View) Find(service identity.Name, port uint16, id string) (Service, bool) {
	v.index()
	for _, k := range v.byPort[port] {
		if s := v.Services[k]; s.Name == service && (id == "" || s.ID == id) {
			return s, true
		}
	}
	return Service{}, false
}

// OnPort returns the first instance at a port.
func (v *View) OnPort(port uint16) (Service, bool) {
	v.index()
	if at := v.byPort[port]; port != 0 && len(at) > 0 {
		return v.Services[at[0]], true
	}
	return Service{}, false
}

// ByID returns the instance of that id.
func (v *View) ByID(id string) (Service, bool) {
	v.index()
	k, ok := v.byID[id]
	if !ok {
		return Service{}, false
	}
	return v.Services[k], true
}

// Names are the services that have an instance here, sorted.
func (v *View) Names() []identity.Name {
	var out []identity.Name
	for _, s := range v.Services {
		out = append(out, s.Name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Inner are the other network namespaces in which instances listen, in order of
// definition.
func (v *View) Inner() (out []netns.Namespace) {
	for _, s := range v.Services {
		if in := s.Listener.In; in != (netns.Namespace{}) && !slices.Contains(out, in) {
			out = append(out, in)
		}
	}
	return out
}

// Definitions are those of all instances.
func (v *View) Definitions() []definition.Definition {
	out := make([]definition.Definition, len(v.Services))
	for k, s := range v.Services {
		out[k] = s.Definition
	}
	return out
}

// apart reports whether a definition's workload is in a network namespace of its own,
// as far as its selector says.
func apart(d definition.Definition) bool { return d.Workload.Container != "" || d.Workload.NetNS != "" }

// Clash refuses a definition whose id or port another one of this node has.
func (v *View) Clash(d definition.Definition) error {
	for _, s := range v.Services {
		if s.ID == d.ID && (s.Name != d.Name || s.Source != d.Source) {
			return fmt.Errorf("the id %s is that of %s (%s) on this node already; give another --id", d.ID, s.Name, s.Source)
		}
		if d.LocalPort() != 0 && s.LocalPort() == d.Port && s.ID != d.ID && (s.Place == "" || !apart(d)) {
			return fmt.Errorf("port %d of %s is the port of %s (id %s) on this node already; deregister that one or use another port", d.Port, d.ID, s.Name, s.ID)
		}
		if s.Ingress != nil && s.Ingress.Port == d.Port {
			return fmt.Errorf("port %d of %s is the port of %s (%s) on this node; use another port", d.Port, d.ID, s.Name, s.Source)
		}
	}
	return nil
}

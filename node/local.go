// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"tacit/redirect/sockdiag"

	"tacit/identity"
	"tacit/node/definition"
	"tacit/node/workload"
	"tacit/policy"
)

// localView is what runs on this node, as last looked at. Immutable.
type localView struct {
	services []localService
}

// localService is one instance defined on this node.
type localService struct {
	definition.Definition
	cgroups  []string // of its workload, those that exist now
	listener listener
}

// listener is who holds an instance's port.
type listener struct {
	state string         // verified, unverified, foreign or none
	addr  netip.AddrPort // where to dial it; zero for foreign
	who   string         // for foreign: what was found
	// anyone: whose sockets may stand there can't be told by who made them.
	anyone bool
}

// present says whether somebody listens.
func (l listener) present() bool { return l.state != "" && l.state != listenerNone }

const (
	listenerVerified   = "verified"   // its socket belongs to the workload
	listenerUnverified = "unverified" // the service has no workload that could be compared
	listenerForeign    = "foreign"    // somebody else's socket
	listenerNone       = "none"       // nobody listens
)

// lookAtLocal reads definitions, cgroups and listening sockets.
func (n *Node) lookAtLocal() *localView {
	v := &localView{}
	defs, err := n.definitions()
	n.problems.set("services", err)
	if err != nil {
		return n.local.Load() // what can't be read mustn't open a port
	}
	for _, d := range defs {
		s := localService{Definition: d, cgroups: n.tree.Paths(d.Name, selector(d))}
		if d.Port != 0 {
			s.listener = n.lookAtListener(d, s.cgroups)
		}
		v.services = append(v.services, s)
	}
	return v
}

func selector(d definition.Definition) workload.Selector {
	w := d.Workload
	return workload.Selector{Cgroup: w.Cgroup, SystemdUnit: w.SystemdUnit, Container: w.Container}
}

// sourceCommand is the Source of what no file defines.
const sourceCommand = "command"

// definitions are those of the folder and those registered by command; a
// file's wins over a command's where both name one id. Those that are held back
// are left out.
func (n *Node) definitions() ([]definition.Definition, error) {
	defs := n.folder.Definitions()
	ids := map[string]bool{}
	for _, d := range defs {
		ids[d.ID] = true
	}
	err := n.store.Services(func(id string, text []byte) error {
		var d definition.Definition
		if err := json.Unmarshal(text, &d); err != nil {
			return fmt.Errorf("registered service %s: %w", id, err)
		}
		if !ids[id] {
			defs = append(defs, d)
		}
		return nil
	})
	return n.holdBack(defs), err
}

func (n *Node) lookAtListener(d definition.Definition, cgroups []string) listener {
	socks, err := sockdiag.ListenersOn(d.Port)
	if err != nil {
		n.log.Warn("listening sockets can't be read", "port", d.Port, "err", err)
		return listener{state: listenerForeign, who: err.Error()}
	}
	o := owners{known: len(cgroups) > 0 || d.Workload != definition.Workload{}, uid: d.Workload.UID,
		cgroup: func(id uint64) bool {
			return slices.ContainsFunc(cgroups, func(path string) bool { return workload.Within(path, id) })
		}}
	if d.Workload.SystemdUnit != "" || slices.ContainsFunc(cgroups, func(path string) bool { return filepath.Ext(path) == ".service" }) {
		o.init = workload.Init()
	}
	return judgeListeners(d, socks, o)
}

// owners says whose sockets are the workload's.
type owners struct {
	known  bool // false: no workload was named, and none was found
	cgroup func(id uint64) bool
	uid    *uint32
	init   uint64 // the cgroup of systemd, which listens for its units; 0: not for this one
}

func (o owners) own(s sockdiag.Listener) bool {
	return o.cgroup(s.CgroupID) || o.uid != nil && *o.uid == s.UID || o.activated(s)
}

func (o owners) activated(s sockdiag.Listener) bool { return o.init != 0 && s.CgroupID == o.init }

// judgeListeners is the rule: every socket that listens on the port where the
// instance is reached must belong to its workload, where the service has one.
func judgeListeners(d definition.Definition, socks []sockdiag.Listener, o owners) listener {
	out := listener{state: listenerNone, anyone: !o.known || o.init != 0}
	for _, s := range socks {
		at, reached := dialable(d, s.Addr)
		if !reached {
			continue
		}
		state := listenerUnverified
		if o.known && o.own(s) {
			state = listenerVerified
		} else if o.known {
			return listener{state: listenerForeign, who: fmt.Sprintf("socket of uid %d, cgroup %d, listens on %s", s.UID, s.CgroupID, s.Addr)}
		}
		if out.state == listenerNone || at.Addr().Is4() {
			out = listener{state: state, addr: at, anyone: !o.known || o.activated(s)}
		}
	}
	return out
}

// dialable turns a listening address into the one to dial, and says whether
// the instance is reached there.
func dialable(d definition.Definition, a netip.AddrPort) (netip.AddrPort, bool) {
	addr := a.Addr().Unmap()
	if addr.IsUnspecified() {
		if d.Address != "" {
			own, err := netip.ParseAddr(d.Address)
			return netip.AddrPortFrom(own, a.Port()), err == nil
		}
		if addr.Is4() {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port()), true
		}
		return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port()), true
	}
	if d.Address != "" && d.Address != addr.String() && !addr.IsLoopback() {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr, a.Port()), true
}

// find returns the instance of service at port; id picks among several.
func (v *localView) find(service identity.Name, port uint16, id string) (localService, bool) {
	i := slices.IndexFunc(v.services, func(s localService) bool {
		return s.Name == service && s.Port == port && (id == "" || s.ID == id)
	})
	if i < 0 {
		return localService{}, false
	}
	return v.services[i], true
}

// byID returns the instance of that id.
func (v *localView) byID(id string) (localService, bool) {
	i := slices.IndexFunc(v.services, func(s localService) bool { return s.ID == id })
	if i < 0 {
		return localService{}, false
	}
	return v.services[i], true
}

// names are the services that have an instance here, sorted.
func (v *localView) names() []identity.Name {
	var out []identity.Name
	for _, s := range v.services {
		out = append(out, s.Name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// clash refuses a definition whose port another service of this node has.
func (v *localView) clash(d definition.Definition) error {
	for _, s := range v.services {
		if s.ID == d.ID && (s.Name != d.Name || s.Source != d.Source) {
			return fmt.Errorf("the id %s is that of %s (%s) on this node already; give another --id", d.ID, s.Name, s.Source)
		}
		if d.Port != 0 && s.Port == d.Port && s.ID != d.ID {
			return fmt.Errorf("port %d of %s is the port of %s (id %s) on this node already; deregister that one or use another port", d.Port, d.ID, s.Name, s.ID)
		}
	}
	return nil
}

func refuse(reason policy.Reason, format string, args ...any) error {
	return &policy.Refusal{Reason: reason, Detail: strings.TrimSpace(fmt.Sprintf(format, args...))}
}

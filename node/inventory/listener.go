// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"tacit/node/definition"
	"tacit/node/workload"
	"tacit/policy/shortage"
	"tacit/redirect/netns"
	"tacit/redirect/sockdiag"
)

// State says who holds an instance's port. The texts are those of the API.
type State string

// States of a port. The zero State is that of an instance without a port, or
// of one that nobody has looked at.
const (
	StateVerified   State = "verified"   // every socket belongs to the workload
	StateUnverified State = "unverified" // the service has no workload to compare with
	StateUnowned    State = "foreign"    // some socket isn't the workload's
	StateNone       State = "none"       // nobody listens
	StateOutside    State = "outside"    // the service is outside of the mesh
)

// Listener is who holds an instance's port.
type Listener struct {
	State State
	Addr  netip.AddrPort  // where to dial; zero where nobody may be dialled
	In    netns.Namespace // where Addr is; zero: the daemon's own
	Owner string          // with StateUnowned: what was found instead
	// Short: for want of descriptors or memory nobody knows who holds the port.
	Short  bool
	Shared bool // sockets share Addr by SO_REUSEPORT
	// Anyone: who made the socket doesn't count, because it can't be compared
	// with a workload or because systemd makes it.
	Anyone bool
}

// Serves reports whether the workload listens, or none has to.
func (l Listener) Serves() bool {
	return l.State == StateVerified || l.State == StateUnverified || l.State == StateOutside
}

// Present reports whether somebody listens.
func (l Listener) Present() bool { return l.State != "" && l.State != StateNone }

// Lasts reports whether a later dial needs no other look: the kernel can refuse it unless
// the same workload still listens, or nobody compares the listener with one.
func (l Listener) Lasts() bool {
	return l.State == StateUnverified || l.State == StateVerified && !l.Anyone && !l.Shared
}

// Listener looks at one service's port again, without the last View: for
// whoever is about to dial it.
func (i *Inventory) Listener(s Service) Listener {
	if s.Place != "" {
		found, _ := s.networks(s.Listener.In)
		l, err := i.innermost(s, found, listenersIn)
		l.Short = shortage.Is(err)
		return l
	}
	if s.Outside != nil { // a program of this node that has the same port is another service's
		return Listener{State: StateOutside}
	}
	socks, err := sockdiag.ListenersOn(s.Port)
	if err != nil {
		return unread(err)
	}
	return judge(s.Definition, socks, ownersOf(s, workload.Init))
}

// Reach is where an instance of this node is dialled now, and in which network
// namespace. The error says why nobody may be: it isn't defined, or another program
// holds its port.
func (i *Inventory) Reach(id string) (at netip.AddrPort, in netns.Namespace, err error) {
	s, ok := i.View().ByID(id)
	if !ok {
		return at, in, fmt.Errorf("%s doesn't run on this node", id)
	}
	if s.Listener = i.Listener(s); s.Listener.State == StateUnowned {
		return at, in, fmt.Errorf("port %d of %s: %s, outside the workload", s.Port, s.Name, s.Listener.Owner)
	}
	if !s.Listener.Addr.IsValid() {
		return at, in, fmt.Errorf("nobody listens on port %d of %s%s", s.Port, s.Name, s.inPlace())
	}
	return s.Listener.Addr, s.Listener.In, nil
}

// inPlace says for people where an instance is, if not in the daemon's namespace.
func (s Service) inPlace() string {
	if s.Place == "" {
		return ""
	}
	return " in " + s.Place
}

// unread closes a port of which nothing is known.
func unread(err error) Listener {
	return Listener{State: StateUnowned, Owner: err.Error(), Short: shortage.Is(err)}
}

// owners says whose sockets are the workload's.
type owners struct {
	known  bool // false: no workload was named, and none was found
	cgroup func(id uint64) bool
	uid    *uint32
	init   uint64 // the cgroup of systemd where it listens for the unit; else 0
}

func ownersOf(s Service, systemd func() uint64) owners {
	o := owners{known: len(s.Cgroups) > 0 || s.Workload != definition.Workload{}, uid: s.Workload.UID, cgroup: s.holds}
	isUnit := func(c workload.Cgroup) bool { return filepath.Ext(c.Path) == ".service" }
	if s.Workload.SystemdUnit != "" || slices.ContainsFunc(s.Cgroups, isUnit) {
		o.init = systemd()
	}
	return o
}

// holds reports whether a cgroup that exists now is the workload's.
func (s Service) holds(id uint64) bool {
	return slices.ContainsFunc(s.Cgroups, func(c workload.Cgroup) bool { return workload.Within(c.Path, id) })
}

func (o owners) own(s sockdiag.Listener) bool {
	return o.activated(s) || o.uid != nil && *o.uid == s.UID || o.cgroup(s.CgroupID)
}

func (o owners) activated(s sockdiag.Listener) bool { return o.init != 0 && s.CgroupID == o.init }

// judge is the rule: every socket that listens where the instance is reached
// must belong to its workload, if the service has one.
func judge(d definition.Definition, socks []sockdiag.Listener, o owners) Listener {
	out := Listener{State: StateNone, Anyone: !o.known || o.init != 0}
	for _, s := range socks {
		at, reached := dialable(d, s)
		if !reached {
			continue
		}
		if o.known && !o.own(s) {
			return Listener{State: StateUnowned, Owner: fmt.Sprintf("socket of uid %d, cgroup %d, listens on %s", s.UID, s.CgroupID, s.Addr)}
		}
		if out.State != StateNone && !at.Addr().Is4() {
			continue // IPv4 is preferred
		}
		out = Listener{State: StateUnverified, Addr: at, Shared: at == out.Addr, Anyone: !o.known || o.activated(s)}
		if o.known {
			out.State = StateVerified
		}
	}
	return out
}

// dialable turns a listening address into the one to dial, and reports whether
// the instance is reached there. IPv4 is preferred: the connect hook can give a
// caller's socket an IPv4 source address only.
func dialable(d definition.Definition, s sockdiag.Listener) (at netip.AddrPort, reached bool) {
	addr, port := s.Addr.Addr().Unmap(), s.Addr.Port()
	switch {
	case addr.IsUnspecified() && d.Address != "":
		own, err := netip.ParseAddr(d.Address)
		return netip.AddrPortFrom(own, port), err == nil
	case addr.IsUnspecified() && (addr.Is4() || !s.V6Only):
		return netip.AddrPortFrom(localhost(), port), true
	case addr.IsUnspecified():
		return netip.AddrPortFrom(netip.IPv6Loopback(), port), true
	case d.Address != "" && d.Address != addr.String() && !addr.IsLoopback():
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr, port), true
}

func localhost() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"errors"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"tacit/node/workload"
	"tacit/policy/shortage"
	"tacit/redirect/links"
)

// slowInterval is how often everything is examined again although nothing is
// known to have changed: the net for what causes no event.
const slowInterval = 10 * time.Second

// Look examines the host and publishes a new View where anything differs from
// the last one. Where nothing has changed it costs one question to the kernel. The
// last View stays while there are no descriptors to look with.
func (i *Inventory) Look() (v *View, changed bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	last := i.view.Load()
	if shortage.Now() != nil {
		return last, false // what can't be opened would look as if it were gone
	}
	l := i.begin()
	next := &View{Services: last.Services, ExemptPeers: i.exempt.peers(), Excluded: last.Excluded}
	changed = !slices.Equal(next.ExemptPeers, last.ExemptPeers)
	if l.redefined || l.deep || l.moved != nil || l.selects || slices.ContainsFunc(last.Services, Service.mayBeEnclosed) {
		next.Services = l.services(last.Services)
		changed = changed || !slices.EqualFunc(next.Services, last.Services, l.same)
	}
	if l.deep {
		next.Excluded = i.excluded()
		changed = changed || !maps.Equal(next.Excluded, last.Excluded)
	}
	if !changed {
		return last, false
	}
	i.view.Store(next)
	return next, true
}

// look is what one Look has to examine.
type look struct {
	*Inventory
	redefined bool              // the definitions in force may be others
	deep      bool              // cgroups may be others
	slow      bool              // everything may have changed
	moved     func(uint16) bool // whether a port's listening sockets are others; nil: none are
	selects   bool              // some workload is a network namespace or an interface
	init      func() uint64     // the cgroup of process 1
	inside    listing           // who listens in other network namespaces
}

// begin finds out what may have changed.
func (i *Inventory) begin() *look {
	i.define()
	l := &look{Inventory: i, redefined: i.looked != i.defined.version, init: sync.OnceValue(workload.Init), inside: once(listenersIn)}
	i.looked = i.defined.version
	if l.slow = time.Since(i.slowLook) >= slowInterval; l.slow {
		i.slowLook = time.Now()
	}
	containers, named := false, slices.Clone(i.conf.Settings.Exclude.Cgroups)
	for _, d := range i.defined.list {
		w := d.Workload
		l.selects = l.selects || w.NetNS != "" || w.Interface != ""
		containers = containers || w.Container != ""
		if w.Cgroup != "" {
			named = append(named, w.Cgroup)
		}
	}
	if l.deep = l.redefined || l.slow || !i.cgroups.hold(); l.deep {
		if err := i.cgroups.look(containers, named); err != nil {
			i.conf.Log.Warn("the cgroup tree is scanned at each look instead of after changes", "err", err)
		}
	}
	l.moved = i.sockets.look()
	return l
}

// services examines those that may have changed; last are those of the last View.
func (l *look) services(last []Service) []Service {
	out := make([]Service, len(l.defined.list))
	if l.redefined {
		l.places.forget(l.defined.list)
	}
	for k, d := range l.defined.list {
		s := Service{Definition: d}
		if !l.redefined {
			s = last[k]
		}
		l.examine(&s)
		out[k] = s
	}
	return out
}

func (l *look) examine(s *Service) {
	if s.Ingress != nil { // no program of this node is it
		return
	}
	last := s.Listener.In
	again := l.redefined || l.slow
	if l.deep {
		found := l.cgroups.scan.Cgroups(s.Name, selector(s.Definition))
		again = again || !slices.Equal(found, s.Cgroups)
		s.Cgroups = found
	}
	if again && len(l.conf.Settings.Exclude.UIDs) > 0 {
		s.Users = usersIn(s.Cgroups)
	}
	if s.Outside != nil {
		s.Listener = Listener{State: StateOutside}
		return
	}
	if s.Port != 0 && (again || l.moved != nil && l.moved(s.Port)) {
		s.home = l.listener(*s)
	}
	s.Listener = s.home
	s.findNetwork()
	l.findPlace(s, last)
}

func (l *look) listener(s Service) Listener {
	if err := l.sockets.err; err != nil {
		return unread(err)
	}
	return judge(s.Definition, l.sockets.byPort[s.Port], ownersOf(s, l.init))
}

// findNetwork looks up the network namespace or interface that a workload is
// selected by.
func (s *Service) findNetwork() {
	s.Namespace, s.Interfaces, s.Unfound = 0, nil, nil
	if s.Workload.NetNS == "" && s.Workload.Interface == "" {
		return
	}
	if name := s.Workload.NetNS; name != "" {
		s.Namespace, _ = workload.Namespace(name) // 0 where there is none
		interfaces, err := links.InterfacesTo(workload.NamespacePath(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.Unfound = map[string]error{"network namespace " + name: err}
		}
		s.Interfaces = interfaces
		return
	}
	index, err := links.Interface(s.Workload.Interface)
	if err != nil {
		s.Unfound = map[string]error{"interface " + s.Workload.Interface: err}
		return
	}
	s.Interfaces = []uint32{index}
}

func usersIn(cgroups []workload.Cgroup) []uint32 {
	var out []uint32
	for _, c := range cgroups {
		out = append(out, workload.Users(c.Path)...)
	}
	return out
}

// excluded are the ids of the excluded cgroups that exist.
func (i *Inventory) excluded() map[string]uint64 {
	out := map[string]uint64{}
	for _, path := range i.conf.Settings.Exclude.Cgroups {
		if id, err := workload.ID(path); err == nil {
			out[path] = id
		}
	}
	return out
}

// same reports whether a service is as it was.
func (l *look) same(now, last Service) bool {
	return slices.Equal(now.Cgroups, last.Cgroups) && now.Listener == last.Listener && now.Place == last.Place && slices.Equal(now.Addrs, last.Addrs) &&
		now.Namespace == last.Namespace && slices.Equal(now.Interfaces, last.Interfaces) && slices.Equal(now.Users, last.Users) &&
		maps.EqualFunc(now.Unfound, last.Unfound, func(a, b error) bool { return a.Error() == b.Error() }) &&
		(!l.redefined || reflect.DeepEqual(now.Definition, last.Definition))
}

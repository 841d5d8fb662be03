// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"errors"
	"maps"
	"net/netip"
	"strings"

	"tacit/node/config"
	"tacit/node/definition"
	"tacit/node/workload"
	"tacit/redirect/links"
	"tacit/redirect/netns"
	"tacit/redirect/sockdiag"
)

// places are those of the workloads that were last seen in another network namespace
// than the daemon's, by instance id. They survive a restart: while a container is
// stopped, its port isn't taken for one of the host.
type places struct {
	kept setting
	held map[string]string
}

// of is the place of a definition of which nothing else is known.
func (p *places) of(d definition.Definition) string {
	if name := placeName(d); d.Workload.NetNS != "" || p.held[d.ID] == name {
		return name
	}
	return ""
}

// put keeps where a workload was seen; "" is the daemon's own namespace.
func (p *places) put(id, place string) {
	if p.held[id] == place {
		return
	}
	p.held, p.kept.dirty = maps.Clone(p.held), true
	if p.held[id] = place; place == "" {
		delete(p.held, id)
	}
}

// forget drops the places of instances that are gone.
func (p *places) forget(defs []definition.Definition) {
	known := map[string]bool{}
	for _, d := range defs {
		known[d.ID] = true
	}
	for id := range p.held {
		if !known[id] {
			p.put(id, "")
		}
	}
}

// placeName says for people in which network namespace a workload is, within the
// limit of a record.
func placeName(d definition.Definition) string {
	const limit = 256
	name := selectorName(d)
	return name[:min(limit, len(name))]
}

func selectorName(d definition.Definition) string {
	const digits = 12 // of a container ID that engines print
	switch w := d.Workload; {
	case w.Container != "":
		return "container " + w.Container[:min(digits, len(w.Container))]
	case w.NetNS != "":
		return "netns " + w.NetNS
	case w.SystemdUnit != "":
		return "unit " + w.SystemdUnit
	case w.Cgroup != "":
		return "cgroup " + w.Cgroup
	}
	return "netns of " + d.ID
}

// enclosable reports whether a workload can be in another network namespace: one
// that is selected by its processes. A user's are in many.
func enclosable(d definition.Definition) bool {
	return d.LocalPort() != 0 && d.Workload.UID == nil && d.Workload.Interface == ""
}

// mayBeEnclosed reports whether a look has to search other network namespaces.
func (s Service) mayBeEnclosed() bool {
	return enclosable(s.Definition) && (s.Place != "" || len(s.Cgroups) > 0 && !s.home.Serves())
}

// seesInside reports whether a workload is looked for in other network namespaces:
// without hooks nothing would guard it there.
func (i *Inventory) seesInside(d definition.Definition) bool {
	return enclosable(d) && i.conf.Settings.Redirect != config.TPROXY
}

// findPlace finds the network namespace in which the workload listens: the daemon's,
// where it does, else that of its processes. A process in the daemon's says nothing by
// itself: an engine starts in it before it enters the container.
func (l *look) findPlace(s *Service, last netns.Namespace) {
	if !l.seesInside(s.Definition) {
		return
	}
	if s.Workload.NetNS == "" && s.home.Serves() {
		s.Place, s.Addrs = "", nil
		l.places.put(s.ID, "")
		return
	}
	found, home := s.networks(last)
	inner, err := l.innermost(*s, found, l.inside)
	if len(found) > 0 && (!home || inner.Serves()) {
		l.places.put(s.ID, placeName(s.Definition))
	}
	s.Place = l.places.of(s.Definition)
	if s.Place == "" || home && s.Workload.NetNS != "" {
		s.Place, s.Addrs = "", nil
		return
	}
	if s.Listener = inner; inner.In == (netns.Namespace{}) {
		s.Addrs = nil
	} else if l.slow || l.redefined || inner.In != last {
		s.Addrs = nil
		err = errors.Join(err, s.findAddrs())
	}
	if err != nil {
		s.Unfound = map[string]error{s.Place: err}
	}
}

// networks are the namespaces in which the workload may listen, the one where it was
// last first. home: some process is in the daemon's own.
func (s *Service) networks(last netns.Namespace) (found []netns.Namespace, home bool) {
	if s.Workload.NetNS != "" {
		at, err := netns.At(workload.NamespacePath(s.Workload.NetNS))
		if own, e := netns.Own(); err != nil || e != nil || at.ID == own.ID {
			return nil, err == nil && e == nil
		}
		return []netns.Namespace{at}, false
	}
	if now, err := netns.At(last.Path); last.Path != "" && err == nil && now == last {
		found = []netns.Namespace{last}
	}
	some, home := workload.Networks(s.Cgroups)
	for _, at := range some {
		if at.ID != last.ID || len(found) == 0 {
			found = append(found, at)
		}
	}
	return found, home
}

// listing returns the sockets that listen in a network namespace.
type listing func(netns.Namespace) ([]sockdiag.Listener, error)

func listenersIn(at netns.Namespace) (list []sockdiag.Listener, err error) {
	err = at.Do(func(func() error) error {
		list, err = sockdiag.Listeners()
		return err
	})
	return list, err
}

// once asks for each namespace only once.
func once(ask listing) listing {
	type answer struct {
		list []sockdiag.Listener
		err  error
	}
	known := map[netns.ID]answer{}
	return func(at netns.Namespace) ([]sockdiag.Listener, error) {
		a, ok := known[at.ID]
		if !ok {
			a.list, a.err = ask(at)
			known[at.ID] = a
		}
		return a.list, a.err
	}
}

// innermost is who holds the port in the first of the namespaces in which the
// workload does, else in which somebody does.
func (i *Inventory) innermost(s Service, found []netns.Namespace, list listing) (out Listener, failed error) {
	out.State = StateNone
	for _, at := range found {
		socks, err := list(at)
		if errors.Is(err, netns.ErrGone) {
			continue
		}
		one := judge(enclosed(s.Definition), on(s.Port, socks), i.ownersIn(s))
		one.In = at
		if err != nil {
			one, failed = unread(err), errors.Join(failed, err)
		}
		if one.Serves() {
			return one, nil
		}
		if out.State == StateNone {
			out = one
		}
	}
	return out, failed
}

// enclosed is a definition as it counts in another namespace, which has none of the
// host's addresses.
func enclosed(d definition.Definition) definition.Definition {
	d.Address = ""
	return d
}

func on(port uint16, list []sockdiag.Listener) (out []sockdiag.Listener) {
	for _, l := range list {
		if l.Addr.Port() == port {
			out = append(out, l)
		}
	}
	return out
}

// ownersIn says whose sockets are the workload's in its own namespace: where that
// selects it, those of every program that the hooks see.
func (i *Inventory) ownersIn(s Service) owners {
	o := ownersOf(s, workload.Init)
	if s.Workload.NetNS != "" {
		root := i.conf.Tree.Root()
		o.cgroup = func(id uint64) bool {
			path, err := workload.PathOf(root, id)
			return err == nil && strings.HasPrefix(path+"/", root+"/")
		}
	}
	return o
}

// findAddrs finds the addresses by which this host reaches the namespace.
func (s *Service) findAddrs() error {
	var all []netip.Addr
	err := s.Listener.In.Do(func(func() error) (err error) {
		all, err = links.LocalAddrs()
		return err
	})
	if err == nil && s.Listener.In.Path != "" {
		s.Addrs, err = links.Reached(s.Listener.In.Path, all)
	}
	if errors.Is(err, netns.ErrGone) {
		return nil
	}
	return err
}

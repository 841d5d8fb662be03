// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tacit/node/config"
	"tacit/node/definition"
	"tacit/policy/kernel"
	"tacit/redirect/netns"
)

// TestPlace: a container is found in its own network namespace, is remembered there
// while it is stopped and over a restart of the daemon, and is found again in the next.
func TestPlace(t *testing.T) {
	const id, at = "0123456789ab", "container 0123456789ab"
	h := newHost(t, config.Exclude{})
	h.file("db.hcl", `service { name = "db" port = 7010 workload { container = "`+id+`" } }`)
	expect := func(when string, state State, place string, guards int) {
		t.Helper()
		v, _ := h.Look()
		s := v.Services[0]
		home, _ := v.Guards(1, 2)
		if s.Listener.State != state || s.Place != place || len(home) != guards || len(v.InnerGuards(1, 2)) != 1 {
			t.Errorf("%s: %+v in %q, %d guards of the host's ports; want %s in %q and %d", when, s.Listener, s.Place, len(home), state, place, guards)
		}
		if inside := s.Listener.In != (netns.Namespace{}); inside != (place != "" && state == StateVerified) {
			t.Errorf("%s: listens in %+v", when, s.Listener.In)
		}
		if v, changed := h.Look(); changed {
			t.Errorf("%s: it changes without a change: %+v", when, v.Services[0])
		}
	}
	cgroup := func() string { return "docker/" + id + strings.Repeat("0", 52) }
	expect("never seen", StateNone, "", 1)
	stopOther := listenIn(t, h.cgroup("other"), "0.0.0.0:7010")
	expect("another program of the host has the port", StateUnowned, "", 1)
	stop := listenInside(t, h.cgroup(cgroup()), "0.0.0.0:7010")
	h.Rescan()
	expect("it listens", StateVerified, at, 0)
	if l := h.Listener(h.byID("db")); l.State != StateVerified || l.Addr != netip.MustParseAddrPort("127.0.0.1:7010") {
		t.Errorf("for whoever dials: %+v", l)
	}
	stop()
	if l := h.Listener(h.byID("db")); l.State != StateNone {
		t.Errorf("for whoever dials a program that has ended: %+v", l)
	}
	expect("it has ended", StateNone, at, 0)
	h.remove(cgroup())
	h.Rescan()
	expect("it is stopped", StateNone, at, 0)
	h.Keep()
	h.reopen(config.Exclude{})
	if v, err := h.Defined(); err != nil || v.Services[0].Place != at {
		t.Errorf("after a restart: %+v, %v", v, err)
	}
	expect("after a restart", StateNone, at, 0)
	stopEngine := listenIn(t, h.cgroup(cgroup()), "127.0.0.1:7012")
	h.Rescan()
	expect("its engine starts it, from the host's namespace", StateNone, at, 0)
	stopEngine()
	stop = listenInside(t, h.cgroup(cgroup()), "0.0.0.0:7010")
	h.Rescan()
	expect("it runs again", StateVerified, at, 0)
	stop()
	stopOther()
	listenIn(t, h.cgroup(cgroup()), "0.0.0.0:7010")
	expect("it has the host's network", StateVerified, "", 1)
}

// TestPlaceOfANamespace: a network namespace is a place by its definition alone, and
// what the hooks don't see in it isn't the workload.
func TestPlaceOfANamespace(t *testing.T) {
	h := newHost(t, config.Exclude{})
	h.file("db.hcl", `service { name = "db" port = 7011 workload { netns = "none" } }`)
	if v, err := h.Defined(); err != nil || v.Services[0].Place != "netns none" {
		t.Errorf("%+v, %v", v, err)
	}
	if v, _ := h.Look(); v.Services[0].Place != "netns none" || v.Services[0].Listener.State != StateNone {
		t.Errorf("a namespace that isn't there: %+v", v.Services[0])
	}
	h.file("db.hcl", `service { name = "db" port = 7011 workload { netns = "/proc/thread-self/ns/net" } }`)
	listenIn(t, h.cgroup("db"), "127.0.0.1:7011")
	if v, _ := h.Look(); v.Services[0].Place != "" || v.Services[0].Listener.State == StateNone {
		t.Errorf("the daemon's own: %+v", v.Services[0])
	}
}

// TestInnerGuards: one guard for each service and port, the stricter of two; none for
// workloads that are found by a user or an interface.
func TestInnerGuards(t *testing.T) {
	service := func(name string, port uint16, change func(*Service)) Service {
		s := Service{Definition: definition.Definition{Name: "db", ID: name, Port: port}}
		change(&s)
		return s
	}
	uid := uint32(7)
	v := &View{Services: []Service{
		service("a", 5432, func(s *Service) { s.Permissive, s.Place = true, "container a" }),
		service("b", 5432, func(s *Service) { s.Place = "container b" }),
		service("c", 5433, func(s *Service) { s.Workload.UID = &uid }),
		service("d", 5434, func(s *Service) { s.Workload.Interface = "tap0" }),
		service("e", 0, func(*Service) {}),
	}}
	want := []kernel.Guard{{Port: 5432, Service: "db", Serving: true}}
	if got := v.InnerGuards(1, 2); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if home, _ := v.Guards(1, 2); len(home) != 2 || home[0].Port != 5433 {
		t.Errorf("the host's: %+v", home)
	}
}

// TestInnerAddrs: an address that two services claim is neither's.
func TestInnerAddrs(t *testing.T) {
	addrs := func(list ...string) (out []netip.Addr) {
		for _, a := range list {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	v := &View{Services: []Service{
		{Definition: definition.Definition{Name: "db", Port: 1}, Addrs: addrs("172.17.0.2", "172.17.0.4")},
		{Definition: definition.Definition{Name: "web", Port: 1}, Addrs: addrs("172.17.0.3", "172.17.0.4")},
	}}
	want := []kernel.Remote{{Addr: netip.MustParseAddrPort("172.17.0.2:1"), Service: "db"}, {Addr: netip.MustParseAddrPort("172.17.0.3:1"), Service: "web"}}
	if got := v.InnerAddrs(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

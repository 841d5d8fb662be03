// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"tacit/identity"
	"tacit/node/definition"
	"tacit/node/definition/external"
	"tacit/node/workload"
	"tacit/policy"
)

// TestWorkloads: who is which service. What two claim belongs to neither.
func TestWorkloads(t *testing.T) {
	in := func(name identity.Name, ids ...uint64) Service {
		s := service(name, string(name), 0)
		for _, id := range ids {
			s.Cgroups = append(s.Cgroups, workload.Cgroup{Path: fmt.Sprintf("/c%d", id), ID: id})
		}
		return s
	}
	user := func(name identity.Name, uid uint32) Service {
		s := service(name, string(name), 0)
		s.Workload.UID = &uid
		return s
	}
	network := func(name identity.Name, cookie uint64, interfaces ...uint32) Service {
		s := service(name, string(name), 0)
		s.Namespace, s.Interfaces, s.Workload.NetNS = cookie, interfaces, "box"
		return s
	}
	guest := func(name identity.Name, index uint32) Service {
		s := service(name, string(name), 0)
		s.Interfaces, s.Workload.Interface = []uint32{index}, "tap0"
		return s
	}
	lost := service("lost", "lost", 0)
	lost.Unfound = map[string]error{"interface tap9": errors.New("none")}
	for name, c := range map[string]struct {
		services []Service
		want     string // cgroups, namespaces, users, interfaces
		problems string
	}{
		"nobody":                  {nil, "map[] map[] map[] map[]", "[]"},
		"cgroups":                 {[]Service{in("web", 1, 2), in("db", 3)}, "map[1:web 2:web 3:db] map[] map[] map[]", "[]"},
		"not granted":             {[]Service{in("secret", 1), in("db", 3)}, "map[3:db] map[] map[] map[]", "[]"},
		"a user":                  {[]Service{user("db", 70)}, "map[] map[] map[70:db] map[]", "[]"},
		"a namespace":             {[]Service{network("box", 9, 4, 5)}, "map[] map[9:box] map[] map[4:box 5:box]", "[]"},
		"a namespace that's gone": {[]Service{network("box", 0)}, "map[] map[] map[] map[]", "[]"},
		"a guest":                 {[]Service{guest("vm", 6)}, "map[] map[] map[] map[6:vm]", "[]"},
		"two of one service":      {[]Service{in("db", 1), in("db", 1)}, "map[1:db] map[] map[] map[]", "[]"},
		"two claim a cgroup":      {[]Service{in("web", 1, 2), in("db", 1)}, "map[2:web] map[] map[] map[]", "[/c1]"},
		"three claim a cgroup":    {[]Service{in("web", 1), in("db", 1), in("web", 1)}, "map[] map[] map[] map[]", "[/c1]"},
		"two claim a user":        {[]Service{user("db", 70), user("web", 70)}, "map[] map[] map[] map[]", "[uid 70]"},
		"two claim a namespace":   {[]Service{network("a", 9), network("b", 9)}, "map[] map[] map[] map[]", "[network namespace box]"},
		"two claim an interface":  {[]Service{network("a", 9, 4), guest("b", 4)}, "map[] map[9:a] map[] map[]", "[interface tap0]"},
		"one claims with secret":  {[]Service{in("secret", 1), in("db", 1)}, "map[1:db] map[] map[] map[]", "[]"},
		"an interface isn't there": {[]Service{lost}, "map[] map[] map[] map[]",
			"[interface tap9]"},
	} {
		v := &View{Services: c.services}
		w, problems := v.Workloads(func(s identity.Name) bool { return s != "secret" })
		if got := fmt.Sprint(w.Cgroups, w.Namespaces, w.Users, w.Interfaces); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if got := fmt.Sprint(slices.Sorted(maps.Keys(problems))); got != c.problems {
			t.Errorf("%s: problems %s, want %s", name, got, c.problems)
		}
		for what, err := range problems {
			if refusal, ok := errors.AsType[*policy.Refusal](err); ok && refusal.Reason != policy.ReasonIdentity {
				t.Errorf("%s: %s: reason %s", name, what, refusal.Reason)
			}
		}
	}
}

// TestAnswers: the ports of programs in the daemon's network namespace that see their
// callers' own addresses.
func TestAnswers(t *testing.T) {
	own := func(port uint16, place string) Service {
		return Service{Definition: definition.Definition{Name: "db", Port: port, ClientAddress: definition.ClientOwn}, Place: place}
	}
	other := Service{Definition: definition.Definition{Name: "web", Port: 83}}
	v := View{Services: []Service{own(82, ""), other, own(81, ""), own(82, ""), own(0, ""), own(84, "container 0123456789ab")}}
	if got := fmt.Sprint(v.Answers()); got != "[81 82]" {
		t.Error(got)
	}
}

// TestGuards: every port of a service is closed, whoever it belongs to.
// Ephemeral ports are 40000 to 50000 here.
func TestGuards(t *testing.T) {
	s := func(name identity.Name, port uint16, permissive bool, l Listener) Service {
		return Service{Definition: definition.Definition{Name: name, ID: string(name), Port: port, Permissive: permissive}, Listener: l}
	}
	shows := func(c definition.ClientAddress) Service {
		return Service{Definition: definition.Definition{Name: "db", ID: "db", Port: 80, ClientAddress: c}}
	}
	far := s("rds", 5432, false, Listener{State: StateOutside})
	far.Outside = &external.Place{Hosts: []string{"a.example"}}
	none, ours, anyones := Listener{State: StateNone}, Listener{State: StateVerified}, Listener{State: StateUnverified, Anyone: true}
	for name, c := range map[string]struct {
		services []Service
		want     string // port service permissive anyone serving loopback carried
		problems string
	}{
		"outside of the mesh":           {[]Service{far, s("db", 5432, false, ours)}, "[{5432 db false false true false false}]", "map[]"},
		"no port":                       {[]Service{s("web", 0, false, Listener{})}, "[]", "map[]"},
		"strict":                        {[]Service{s("db", 80, false, ours)}, "[{80 db false false true false false}]", "map[]"},
		"permissive":                    {[]Service{s("db", 80, true, ours)}, "[{80 db true false true false false}]", "map[]"},
		"not looked at yet":             {[]Service{s("db", 80, false, Listener{})}, "[{80 db false false true false false}]", "map[]"},
		"an ephemeral port, served":     {[]Service{s("db", 41000, false, ours)}, "[{41000 db false false true false false}]", "map[]"},
		"an ephemeral port, not served": {[]Service{s("db", 41000, false, none)}, "[{41000 db false false false false false}]", "map[]"},
		"whoever listens":               {[]Service{s("db", 80, false, anyones)}, "[{80 db false true true false false}]", "map[]"},
		"in order of port":              {[]Service{s("b", 81, false, ours), s("a", 80, false, ours)}, "[{80 a false false true false false} {81 b false false true false false}]", "map[]"},
		"two instances, one strict":     {[]Service{s("db", 80, true, ours), s("db", 80, false, anyones)}, "[{80 db false false true false false}]", "map[]"},
		"loopback":                      {[]Service{shows(definition.ClientLoopback)}, "[{80 db false false true true false}]", "map[]"},
		"proxy_protocol":                {[]Service{shows(definition.ClientProxyProtocol)}, "[{80 db false false true false true}]", "map[]"},
		"one of two with loopback":      {[]Service{shows(definition.ClientLoopback), shows("")}, "[{80 db false false true false false}]", "map[]"},
		"one of two with a header":      {[]Service{shows(definition.ClientProxyProtocol), shows("")}, "[{80 db false false true false true}]", "map[]"},
		"two services":                  {[]Service{s("db", 80, true, ours), s("web", 80, true, ours)}, "[{80  true false true false false}]", "map[80:db and web both define it: neither is served there]"},
	} {
		guards, problems := (&View{Services: c.services}).Guards(40000, 50000)
		if got := fmt.Sprint(guards); got != c.want || fmt.Sprint(problems) != c.problems {
			t.Errorf("%s: %s, %v; want %s, %s", name, got, problems, c.want, c.problems)
		}
	}
}

func TestEphemeralPorts(t *testing.T) {
	if low, high := EphemeralPorts(); low < 1 || high > 65535 || low >= high {
		t.Errorf("%d to %d", low, high)
	}
}

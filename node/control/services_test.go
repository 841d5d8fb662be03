// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/balance"
	"tacit/node/definition"
	"tacit/node/inventory"
)

// instances are those of a service, one per line.
func instances(s *api.Service) string {
	var out []string
	for _, in := range s.Instances {
		text := fmt.Sprintf("%s on %s at %s:%d", in.ID, in.Node, in.Address, in.Port)
		if in.Local {
			text += fmt.Sprintf(", local, %s, of %s", in.Listener, in.Source)
			if in.ClientAddress != "service" {
				text += ", callers as " + in.ClientAddress
			}
		}
		if in.Healthy {
			text += ", healthy"
		}
		if in.Down != "" {
			text += ", no: " + in.Down
		}
		if in.Permissive {
			text += ", permissive"
		}
		if in.Ejected != nil {
			text += fmt.Sprintf(", ejected after %d failures", in.Ejected.Failures)
		}
		out = append(out, text)
	}
	return strings.Join(out, "\n")
}

// TestServices: an instance is as healthy as its record and its node say.
func TestServices(t *testing.T) {
	f := newFixture(t)
	f.inventory.has(definition.Definition{Name: "db", Port: 5432, Permissive: true}, inventory.StateVerified)
	f.inventory.has(definition.Definition{Name: "db", ID: "db-2", Port: 5433, Address: "10.0.0.9", ClientAddress: definition.ClientProxyProtocol}, inventory.StateUnverified)
	f.inventory.has(definition.Definition{Name: "db", ID: "db-3", Port: 5434}, inventory.StateUnowned)
	f.inventory.has(definition.Definition{Name: "db", ID: "db-4", Port: 5435}, inventory.StateNone)
	f.inventory.has(definition.Definition{Name: "web"}, "")
	for _, service := range []identity.Name{"db", "web"} {
		if err := f.Grant("host1", service, false); err != nil {
			t.Fatal(err)
		}
	}
	f.runs(t, "host2", f.admit(t, "host2", "10.0.0.2"), "db", 5432)
	f.runs(t, "host3", f.admit(t, "host3", "10.0.0.3"), "db", 5432)
	f.alive["host3"] = false
	f.proxy.ejected = map[balance.Key]balance.Ejected{{Node: "host2", ID: "db"}: {Failures: 4}}
	f.loop.Settle()
	db, err := f.Services.Show(t.Context(), "db")
	if err != nil {
		t.Fatal(err)
	}
	differs(t, "db", instances(db), `db on host1 at 10.0.0.1:5432, local, verified, of db.hcl:1, healthy, permissive
db-2 on host1 at 10.0.0.9:5433, local, unverified, of db.hcl:1, callers as proxy_protocol, healthy
db-3 on host1 at 10.0.0.1:5434, local, foreign, of db.hcl:1, no: listener
db-4 on host1 at 10.0.0.1:5435, local, none, of db.hcl:1, no: listener
db on host2 at 10.0.0.2:5432, healthy, ejected after 4 failures
db on host3 at 10.0.0.3:5432, no: node`)
	if db.ID != "spiffe://mesh.test/svc/db" || db.Virtual4.String() != "240.64.0.2" || db.Virtual6.String() != "fd00::2" {
		t.Errorf("db is %s at %s and %s", db.ID, db.Virtual4, db.Virtual6)
	}
	list, err := f.Services.List(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "db" || instances(&list[0]) != instances(db) {
		t.Fatalf("list: %+v, %v", list, err)
	}
	differs(t, "web, which only calls others", instances(&list[1]), "web on host1 at 10.0.0.1:0, local, , of web.hcl:1, healthy")
	_, err = f.Services.Show(t.Context(), "wed")
	differs(t, "wed", says(err), "2: no service is called wed [tacit services lists them]")
}

// TestRegisterRefusals: nothing is signed, kept or exempted.
func TestRegisterRefusals(t *testing.T) {
	const yes = " [repeat it with --yes if that is meant: this session is not cut, but new ones are refused]"
	for name, c := range map[string]struct {
		r    api.Registration
		have func(*fixture)
		want string
	}{
		"a bad address":    {r: api.Registration{Name: "db", Port: 5432, Address: "here"}, want: `2: --address "here": not an IP address`},
		"a bad definition": {r: api.Registration{Name: "db", Port: 5432, ID: "a b"}, want: `2: id: "a b": must be 1 to 128 visible characters without spaces or /`},
		"another's port": {r: api.Registration{Name: "db", Port: 5432},
			have: func(f *fixture) {
				f.inventory.has(definition.Definition{Name: "cache", Port: 5432}, inventory.StateVerified)
			},
			want: "1: port 5432 of db is the port of cache (id cache) on this node already; deregister that one or use another port [tacit services lists the ports]"},
		"what a file defines": {r: api.Registration{Name: "db", Port: 5432},
			have: func(f *fixture) {
				f.inventory.has(definition.Definition{Name: "db", Port: 5432}, inventory.StateVerified)
			},
			want: "1: the id db is that of db (db.hcl:1) on this node already; give another --id [tacit services lists the ports]"},
		"an outside service with a workload": {r: api.Registration{Name: "rds", Port: 5432, Outside: []string{"a.example"}, Workload: api.Workload{NetNS: "box"}},
			want: "2: workload: has no meaning with outside: no program of this node is the service"},
		"an outside service here": {r: api.Registration{Name: "rds", Port: 5432, Outside: []string{"10.0.0.1"}},
			want: "1: --outside 10.0.0.1:5432: 10.0.0.1 is this node's own address [define the service on the node that runs it]"},
		"an outside service on loopback": {r: api.Registration{Name: "rds", Port: 5432, Outside: []string{"127.0.0.1"}},
			want: "2: --outside: 127.0.0.1 is a loopback address"},
		"an excluded port": {r: api.Registration{Name: "db", Port: 5432},
			have: func(f *fixture) { f.Settings.Exclude.Ports = []uint16{5432} },
			want: "1: port 5432 of db (command) is excluded by exclude.ports: the port of a service can't be excluded; remove it there, or use another port"},
		"the port left out": {r: api.Registration{Name: "db"},
			have: func(f *fixture) {
				f.inventory.has(definition.Definition{Name: "db", Port: 5432, Source: inventory.SourceCommand}, inventory.StateVerified)
			},
			want: "1: db is registered with port 5432, and this would drop it [give --port 5432, or deregister it first]"},
		"the caller's own session": {r: api.Registration{Name: "shell", Port: 22},
			have: func(f *fixture) { f.inventory.own = from("192.0.2.1", 2) },
			want: "1: port 22 carries the session in which you work, from 192.0.2.1:1, 192.0.2.1:2; registering it closes the port to plain connections" + yes},
		"a file that waits for a yes": {r: api.Registration{Name: "shell", Port: 22},
			have: func(f *fixture) { f.inventory.held["shell"] = definition.Definition{Name: "shell", Port: 22} },
			want: "1: shell is defined in a file and not in force yet, because people are logged in by port 22" + yes},
		"no grant": {r: api.Registration{Name: "db", Port: 5432},
			have: func(f *fixture) { f.Member.Operator = nil },
			want: "1: service db is not granted to node host1"},
	} {
		f := newFixture(t)
		if c.have != nil {
			c.have(f)
		}
		signed, services := f.records.signed, len(f.inventory.services)
		_, err := f.Services.Register(t.Context(), c.r)
		if got := says(err); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, c.want)
		}
		if f.records.signed != signed || len(f.inventory.services) != services || len(f.inventory.exempt) > 0 {
			t.Errorf("%s: something was changed all the same", name)
		}
	}
}

// TestRegister: what the answer warns of, and what is kept.
func TestRegister(t *testing.T) {
	const nobody = "nobody may call db yet: tacit intention allow SRC db"
	for name, c := range map[string]struct {
		r        api.Registration
		have     func(*testing.T, *fixture)
		warnings string
		instance string
		granted  bool // there was no grant yet
		exempt   int
	}{
		"plainly": {r: api.Registration{Name: "db", Port: 5432}, granted: true, warnings: nobody,
			instance: "db on host1 at 10.0.0.1:5432, local, verified, of command, healthy"},
		"a name that exists outside": {r: api.Registration{Name: "intranet", Port: 80}, granted: true,
			warnings: "nobody may call intranet yet: tacit intention allow SRC intranet\nintranet.corp.example exists",
			instance: "intranet on host1 at 10.0.0.1:80, local, verified, of command, healthy"},
		"a client has no name": {r: api.Registration{Name: "intranet"}, granted: true,
			instance: "intranet on host1 at 10.0.0.1:0, local, verified, of command, healthy"},
		"granted already": {r: api.Registration{Name: "db", Port: 5432},
			have: func(t *testing.T, f *fixture) {
				if err := f.Grant("host1", "db", false); err != nil {
					t.Fatal(err)
				}
			},
			warnings: nobody, instance: "db on host1 at 10.0.0.1:5432, local, verified, of command, healthy"},
		"a rule lets web call": {r: api.Registration{Name: "db", Port: 5432}, granted: true,
			have:     func(t *testing.T, f *fixture) { f.intend(t, "allow web db") },
			instance: "db on host1 at 10.0.0.1:5432, local, verified, of command, healthy"},
		"a rule lets web call everything": {r: api.Registration{Name: "db", Port: 5432}, granted: true,
			have:     func(t *testing.T, f *fixture) { f.intend(t, "allow web *") },
			instance: "db on host1 at 10.0.0.1:5432, local, verified, of command, healthy"},
		"a rule denies it": {r: api.Registration{Name: "db", Port: 5432}, granted: true,
			have:     func(t *testing.T, f *fixture) { f.intend(t, "deny web db", "allow web other") },
			warnings: nobody, instance: "db on host1 at 10.0.0.1:5432, local, verified, of command, healthy"},
		"it only calls others": {r: api.Registration{Name: "db"}, granted: true,
			instance: "db on host1 at 10.0.0.1:0, local, verified, of command, healthy"},
		"plain clients are cut": {r: api.Registration{Name: "db", Port: 5432}, granted: true,
			have:     func(_ *testing.T, f *fixture) { f.inventory.plain = from("192.0.2.1", 7) },
			warnings: "cuts 7 plain connections: 192.0.2.1:1, 192.0.2.1:2, 192.0.2.1:3, 192.0.2.1:4, 192.0.2.1:5 and 2 more\n" + nobody,
			instance: "db on host1 at 10.0.0.1:5432, local, verified, of command, healthy"},
		"permissive cuts nobody": {r: api.Registration{Name: "db", Port: 5432, Permissive: true}, granted: true, exempt: 1, warnings: nobody,
			have: func(_ *testing.T, f *fixture) {
				f.inventory.plain, f.inventory.own = from("192.0.2.1", 7), from("192.0.2.2", 1)
			},
			instance: "db on host1 at 10.0.0.1:5432, local, verified, of command, healthy, permissive"},
		"the own session, with a yes": {r: api.Registration{Name: "db", Port: 5432, Yes: true}, granted: true, exempt: 1,
			have:     func(_ *testing.T, f *fixture) { f.inventory.own = from("192.0.2.1", 1) },
			warnings: "leaves the session in which you work, from 192.0.2.1:1; new ones to port 5432 are refused\n" + nobody,
			instance: "db on host1 at 10.0.0.1:5432, local, verified, of command, healthy"},
		"a file that waits, with a yes": {r: api.Registration{Name: "db", Port: 5432, Yes: true}, granted: true, warnings: nobody,
			have: func(_ *testing.T, f *fixture) {
				f.inventory.held["db"] = definition.Definition{Name: "db", Port: 5432}
			},
			instance: "db on host1 at 10.0.0.1:5432, local, verified, of db.hcl:1, healthy"},
		"another program holds the port": {r: api.Registration{Name: "db", Port: 5432}, granted: true,
			have: func(_ *testing.T, f *fixture) {
				f.inventory.listener = inventory.Listener{State: inventory.StateUnowned, Owner: "socket of uid 7"}
			},
			warnings: "port 5432 is held by another program (socket of uid 7): calls are refused with the reason listener\n" + nobody,
			instance: "db on host1 at 10.0.0.1:5432, local, foreign, of command, no: listener"},
		"again": {r: api.Registration{Name: "db", Port: 5433, Address: "10.0.0.9", Tags: []string{"new"}},
			have: func(t *testing.T, f *fixture) {
				if _, err := f.Services.Register(t.Context(), api.Registration{Name: "db", Port: 5432}); err != nil {
					t.Fatal(err)
				}
			},
			warnings: nobody, instance: "db on host1 at 10.0.0.9:5433, local, verified, of command, healthy"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.inventory.listener.State = inventory.StateVerified
			if c.have != nil {
				c.have(t, f)
			}
			out, err := f.Services.Register(t.Context(), c.r)
			if err != nil {
				t.Fatal(says(err))
			}
			differs(t, "warnings", strings.Join(out.Warnings, "\n"), c.warnings)
			differs(t, "instance", instances(&out.Service), c.instance)
			if out.GrantSigned != c.granted || !f.records.View().Granted("host1", c.r.Name) {
				t.Errorf("a grant was signed: %v, want %v", out.GrantSigned, c.granted)
			}
			if len(f.inventory.exempt) != c.exempt {
				t.Errorf("%d connections are exempt, want %d", len(f.inventory.exempt), c.exempt)
			}
		})
	}
}

// TestToDefinition: nothing of a registration is lost.
func TestToDefinition(t *testing.T) {
	uid := uint32(7)
	for name, c := range map[string]struct {
		r    api.Workload
		want definition.Workload
	}{
		"cgroup":    {api.Workload{Cgroup: "a/b"}, definition.Workload{Cgroup: "a/b"}},
		"unit":      {api.Workload{SystemdUnit: "db.service"}, definition.Workload{SystemdUnit: "db.service"}},
		"container": {api.Workload{Container: "0123456789ab"}, definition.Workload{Container: "0123456789ab"}},
		"uid":       {api.Workload{UID: &uid}, definition.Workload{UID: &uid}},
		"netns":     {api.Workload{NetNS: "box"}, definition.Workload{NetNS: "box"}},
		"interface": {api.Workload{Interface: "tap0"}, definition.Workload{Interface: "tap0"}},
	} {
		d, err := toDefinition(api.Registration{Name: "db", ID: "db-1", Port: 5432, Address: "10.0.0.9", Tags: []string{"a"}, Meta: map[string]string{"k": "v"},
			Workload: c.r, Upstreams: []api.Upstream{{Destination: "cache", Bind: loopback6379}}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if out, err := toDefinition(api.Registration{Name: "rds", Port: 5432, Outside: []string{"A.example", "203.0.113.5"}, Anywhere: true}); err != nil ||
			fmt.Sprintf("%+v", *out.Outside) != "{Hosts:[a.example] Addresses:[203.0.113.5:5432] Anywhere:true}" {
			t.Errorf("%+v, %v", out.Outside, err)
		}
		want := definition.Definition{Name: "db", ID: "db-1", Port: 5432, Weight: 1, Address: "10.0.0.9", Tags: []string{"a"}, Meta: map[string]string{"k": "v"},
			Workload: c.want, Upstreams: []definition.Upstream{{Destination: "cache", Bind: loopback6379}}, Source: inventory.SourceCommand}
		differs(t, name, fmt.Sprintf("%+v", d), fmt.Sprintf("%+v", want))
	}
}

// TestRegisterWait: until every live node says that it answers the same names.
func TestRegisterWait(t *testing.T) {
	f := newFixture(t)
	out, err := f.Services.Register(t.Context(), api.Registration{Name: "db", Port: 5432, Wait: true, Timeout: time.Millisecond})
	if err != nil {
		t.Fatal(says(err))
	}
	if s := out.Spread; s == nil || s.Nodes-s.Resolves != len(s.Waiting) || s.Resolves == 0 || slices.Contains(s.Waiting, "host1") || s.Elapsed < time.Millisecond && len(s.Waiting) > 0 {
		t.Errorf("spread %+v", s)
	}
	if out, err = f.Services.Register(t.Context(), api.Registration{Name: "db", Port: 5432}); err != nil || out.Spread != nil {
		t.Errorf("without waiting: %+v, %v", out, err)
	}
}

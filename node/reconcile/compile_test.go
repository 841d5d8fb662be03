// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/definition"
	"tacit/node/health"
	"tacit/node/inventory"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
)

// mesh is two nodes; host1 is the one whose state is compiled.
type mesh []statement.Instance

func (m mesh) Instances() []statement.Instance { return m }

func (mesh) Resolvers() []resolver.Rules { return nil }

// Vouched: an operator has vouched for everything but what says otherwise.
func (m mesh) Vouched(node, service identity.Name) (out []string) {
	for _, in := range m {
		if in.Node == node && in.Service == service && in.Outside != nil && in.Meta["vouched"] != "no" {
			out = append(append(out, in.Outside.Hosts...), in.Outside.Addresses...)
		}
	}
	return out
}

func (m mesh) Node(name identity.Name) (statement.Node, bool) {
	at := map[identity.Name]string{"host1": "10.0.0.1", "host2": "10.0.0.2"}[name]
	return statement.Node{Node: name, Address: at, LanePort: 7947}, at != ""
}

// on is an instance of a service on a node.
func on(node identity.Name, service identity.Name, port uint16) statement.Instance {
	return statement.Instance{Node: node, Service: service, ID: string(service), Port: port}
}

// down is an instance that can't serve.
func down(node identity.Name, service identity.Name, port uint16, why string) statement.Instance {
	b := on(node, service, port)
	b.Down = why
	return b
}

// local is an instance that is defined here, with the state of its listener.
func local(name identity.Name, port uint16, l inventory.Listener) inventory.Service {
	return inventory.Service{Definition: definition.Definition{Name: name, ID: string(name), Port: port}, Listener: l}
}

// shows is local with a client_address.
func shows(name identity.Name, c definition.ClientAddress, l inventory.Listener) inventory.Service {
	s := local(name, 5432, l)
	s.ClientAddress = c
	return s
}

// contained is an instance in another network namespace of its node.
func contained(b statement.Instance) statement.Instance {
	b.Place = "container 0123456789ab"
	return b
}

func localContained(name identity.Name, port uint16, l inventory.Listener, addrs ...netip.Addr) inventory.Service {
	s := local(name, port, l)
	s.Place, s.Addrs = "container 0123456789ab", addrs
	return s
}

func everything(identity.Name) bool { return true }

// compile fills in what a case leaves out.
func compile(in Input, m mesh, alive ...identity.Name) string {
	if in.View == nil {
		in.View = &inventory.View{}
	}
	if in.Granted == nil {
		in.Granted = everything
	}
	if in.Proven == nil {
		in.Proven = func(i catalog.Instance) []netip.Addr { return []netip.Addr{i.Addr.Addr()} }
	}
	in.Names = func(map[identity.Name][]string) (domains, hosts []string, crowded bool) { return nil, nil, false }
	in.Table = policy.NewTable(policy.Deny, nil)
	in.Catalog = catalog.New("host1", m, func(n identity.Name) bool { return slices.Contains(alive, n) })
	s, found := Compile(in)
	var out []string
	for _, e := range s.Endpoints {
		where := ""
		if e.Local.IsValid() {
			where = " here at " + e.Local.String()
		}
		if e.Loopback {
			where += ", by loopback"
		}
		if e.Anyone {
			where += ", whoever listens"
		}
		if e.Remote {
			where += " elsewhere"
		}
		if where == "" {
			where = " nowhere"
		}
		out = append(out, fmt.Sprintf("%s:%d is%s", e.Service, e.Port, where))
	}
	for _, r := range s.Remotes {
		out = append(out, fmt.Sprintf("%s is %s", r.Addr, r.Service))
	}
	for _, r := range s.InnerAddrs {
		out = append(out, fmt.Sprintf("%s is %s on this node", r.Addr, r.Service))
	}
	for _, u := range s.Upstreams {
		out = append(out, fmt.Sprintf("%s calls %s:%d by %s", u.Service, u.Destination, u.Port, u.Bind))
	}
	for _, g := range s.Guards {
		out = append(out, fmt.Sprintf("port %d is guarded for %q", g.Port, g.Service))
	}
	for id, name := range s.Workloads.Cgroups {
		out = append(out, fmt.Sprintf("cgroup %d is %s", id, name))
	}
	for family, problems := range found {
		for thing, err := range problems {
			out = append(out, fmt.Sprintf("problem with %s: %v", health.Key{Family: family, Thing: thing}, err))
		}
	}
	return strings.Join(out, "\n")
}

// TestCompile: from what is defined, granted, alive and proven to what the
// kernel holds, one line of the kernel's state each.
func TestCompile(t *testing.T) {
	verified := inventory.Listener{State: inventory.StateVerified, Addr: netip.MustParseAddrPort("127.0.0.1:5432")}
	for name, c := range map[string]struct {
		in    Input
		mesh  mesh
		alive []identity.Name
		want  string
	}{
		"nothing": {},
		"an instance here": {
			in:   Input{View: &inventory.View{Services: []inventory.Service{local("db", 5432, verified)}}},
			mesh: mesh{on("host1", "db", 5432)},
			want: `db:5432 is here at 127.0.0.1:5432
port 5432 is guarded for "db"`,
		},
		"whoever listens": {
			in: Input{View: &inventory.View{Services: []inventory.Service{local("db", 5432,
				inventory.Listener{State: inventory.StateUnverified, Addr: netip.MustParseAddrPort("[::1]:5432"), Anyone: true})}}},
			mesh: mesh{on("host1", "db", 5432)},
			want: `db:5432 is here at [::1]:5432, whoever listens
port 5432 is guarded for "db"`,
		},
		"callers by loopback": {
			in:   Input{View: &inventory.View{Services: []inventory.Service{shows("db", definition.ClientLoopback, verified)}}},
			mesh: mesh{on("host1", "db", 5432)},
			want: `db:5432 is here at 127.0.0.1:5432, by loopback
port 5432 is guarded for "db"`,
		},
		"callers with a header": { // which the daemon writes
			in:   Input{View: &inventory.View{Services: []inventory.Service{shows("db", definition.ClientProxyProtocol, verified)}}},
			mesh: mesh{on("host1", "db", 5432)},
			want: `db:5432 is elsewhere
port 5432 is guarded for "db"`,
		},
		"callers with a header, nobody listens": {
			in: Input{View: &inventory.View{Services: []inventory.Service{
				shows("db", definition.ClientProxyProtocol, inventory.Listener{State: inventory.StateNone})}}},
			mesh: mesh{on("host1", "db", 5432)},
			want: `db:5432 is nowhere
port 5432 is guarded for "db"`,
		},
		"nobody listens yet": { // no instance
			in:   Input{View: &inventory.View{Services: []inventory.Service{local("db", 5432, inventory.Listener{State: inventory.StateNone})}}},
			mesh: mesh{on("host1", "db", 5432)},
			want: `db:5432 is nowhere
port 5432 is guarded for "db"`,
		},
		"another program listens": { // nothing is led to it
			in:   Input{View: &inventory.View{Services: []inventory.Service{local("db", 5432, inventory.Listener{State: inventory.StateUnowned})}}},
			mesh: mesh{on("host1", "db", 5432)},
			want: `db:5432 is nowhere
port 5432 is guarded for "db"`,
		},
		"an instance in a container": { // the host's port is the host's
			in:   Input{View: &inventory.View{Services: []inventory.Service{localContained("db", 5432, verified, netip.MustParseAddr("172.17.0.2"))}}},
			mesh: mesh{contained(on("host1", "db", 5432))},
			want: `db:5432 is elsewhere
172.17.0.2:5432 is db on this node`,
		},
		"an instance in a container, and one beside it": {
			in: Input{View: &inventory.View{Services: []inventory.Service{
				{Definition: definition.Definition{Name: "db", ID: "boxed", Port: 5432}, Listener: verified, Place: "container 0123456789ab"}, local("db", 5432, verified)}}},
			mesh: mesh{{Node: "host1", Service: "db", ID: "boxed", Port: 5432, Place: "container 0123456789ab"}, on("host1", "db", 5432)},
			want: `db:5432 is here at 127.0.0.1:5432 elsewhere
port 5432 is guarded for "db"`,
		},
		"an instance in a container, nobody listens": {
			in:   Input{View: &inventory.View{Services: []inventory.Service{localContained("db", 5432, inventory.Listener{State: inventory.StateNone})}}},
			mesh: mesh{contained(on("host1", "db", 5432))},
			want: `db:5432 is nowhere`,
		},
		"an instance in a container elsewhere": { // not at its node's address
			mesh:  mesh{contained(on("host2", "db", 5432))},
			alive: []identity.Name{"host2"},
			want:  `db:5432 is elsewhere`,
		},
		"defined, and not published yet": {
			in:   Input{View: &inventory.View{Services: []inventory.Service{local("db", 5432, verified)}}},
			want: `port 5432 is guarded for "db"`,
		},
		"an instance elsewhere": {
			mesh:  mesh{on("host2", "db", 5432)},
			alive: []identity.Name{"host2"},
			want: `db:5432 is elsewhere
10.0.0.2:5432 is db`,
		},
		"its node doesn't answer": { // its real address stays judged
			mesh: mesh{on("host2", "db", 5432)},
			want: `db:5432 is nowhere
10.0.0.2:5432 is db`,
		},
		"nobody listens elsewhere": {
			mesh:  mesh{down("host2", "db", 5432, statement.DownListener)},
			alive: []identity.Name{"host2"},
			want: `db:5432 is nowhere
10.0.0.2:5432 is db`,
		},
		"two ports, one is down": { // the port is known: the reason is the instance
			mesh:  mesh{on("host2", "db", 5432), down("host2", "db", 6432, "check pool")},
			alive: []identity.Name{"host2"},
			want: `db:5432 is elsewhere
db:6432 is nowhere
10.0.0.2:5432 is db
10.0.0.2:6432 is db`,
		},
		"one of two elsewhere is down": {
			mesh:  mesh{on("host2", "db", 5432), {Node: "host2", Service: "db", ID: "db-2", Port: 5432, Down: "check pool"}},
			alive: []identity.Name{"host2"},
			want: `db:5432 is elsewhere
10.0.0.2:5432 is db
10.0.0.2:5432 is db`,
		},
		"the instance here fails its check": {
			in:   Input{View: &inventory.View{Services: []inventory.Service{local("db", 5432, verified)}}},
			mesh: mesh{down("host1", "db", 5432, "check pool")},
			want: `db:5432 is nowhere
port 5432 is guarded for "db"`,
		},
		"its address isn't proven": {
			in:    Input{Proven: func(catalog.Instance) []netip.Addr { return nil }},
			mesh:  mesh{on("host2", "db", 5432)},
			alive: []identity.Name{"host2"},
			want:  `db:5432 is elsewhere`,
		},
		"a caller without a port": {
			mesh:  mesh{on("host2", "web", 0)},
			alive: []identity.Name{"host2"},
		},
		"here and elsewhere, two ports": {
			in:    Input{View: &inventory.View{Services: []inventory.Service{local("db", 5432, verified)}}},
			mesh:  mesh{on("host1", "db", 5432), on("host2", "db", 5432), {Node: "host2", Service: "db", ID: "db-2", Port: 6432}},
			alive: []identity.Name{"host2"},
			want: `db:5432 is here at 127.0.0.1:5432 elsewhere
db:6432 is elsewhere
10.0.0.2:5432 is db
10.0.0.2:6432 is db
port 5432 is guarded for "db"`,
		},
		"an upstream": {
			in: Input{View: &inventory.View{Services: []inventory.Service{{Definition: definition.Definition{Name: "web", ID: "web",
				Upstreams: []definition.Upstream{{Destination: "db", Bind: netip.MustParseAddrPort("127.0.0.1:12000")}}}}}}},
			mesh:  mesh{on("host2", "db", 5432)},
			alive: []identity.Name{"host2"},
			want: `db:5432 is elsewhere
10.0.0.2:5432 is db
web calls db:5432 by 127.0.0.1:12000`,
		},
		"a service that isn't granted": { // its port is closed, and nobody is it
			in: Input{Granted: func(identity.Name) bool { return false }, View: &inventory.View{Services: []inventory.Service{{
				Definition: definition.Definition{Name: "db", ID: "db", Port: 5432,
					Upstreams: []definition.Upstream{{Destination: "web", Bind: netip.MustParseAddrPort("127.0.0.1:12000")}}},
				Cgroups: []workload.Cgroup{{Path: "/sys/fs/cgroup/db", ID: 7}}}}}},
			want: `port 5432 is guarded for "db"`,
		},
		"two services claim a port": {
			in: Input{View: &inventory.View{Services: []inventory.Service{local("db", 5432, verified), local("pg", 5432, verified)}}},
			want: `port 5432 is guarded for ""
problem with port 5432: db and pg both define it: neither is served there`,
		},
		"a workload": {
			in: Input{View: &inventory.View{Services: []inventory.Service{{Definition: definition.Definition{Name: "web", ID: "web"},
				Cgroups: []workload.Cgroup{{Path: "/sys/fs/cgroup/web", ID: 7}}}}}},
			want: `cgroup 7 is web`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := compile(c.in, c.mesh, c.alive...); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestNames: what no other resolver may be asked for.
func TestNames(t *testing.T) {
	blue, green := on("host1", "web", 2), on("host2", "web", 2)
	blue.Tags, green.Tags = []string{"v1", "blue"}, []string{"green", "v1"}
	for _, crowded := range []bool{false, true} {
		s, found := Compile(Input{Catalog: catalog.New("host1", mesh{on("host1", "db", 1), blue, green, on("host1", "ingress/a", 0)}, everything), View: &inventory.View{}, Granted: everything,
			Proven: func(catalog.Instance) []netip.Addr { return nil },
			Names: func(tags map[identity.Name][]string) (domains, hosts []string, _ bool) {
				return []string{"mesh"}, []string{fmt.Sprint(tags)}, crowded
			}})
		if got := fmt.Sprint(s.Domains, s.Hosts); got != "[mesh] [map[db:[] web:[blue green v1]]]" {
			t.Errorf("names %s", got)
		}
		if now, ok := found[health.Names]; !ok || len(now) > 0 != crowded {
			t.Errorf("crowded %v: problems %v", crowded, now)
		}
	}
}

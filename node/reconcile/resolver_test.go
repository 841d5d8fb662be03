// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/definition"
	"tacit/node/inventory"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
)

// ruled is a mesh with rules for db.
type ruled struct {
	mesh
	rules resolver.Rules
}

func (r ruled) Resolvers() []resolver.Rules { return []resolver.Rules{r.rules} }

// tagged is an instance with a tag.
func tagged(node identity.Name, service identity.Name, port uint16, tag string) statement.Instance {
	b := on(node, service, port)
	b.Tags = []string{tag}
	return b
}

// TestCompileResolver: where calls of this node's web go under rules for db: to the
// program itself, to the daemon, or nowhere.
func TestCompileResolver(t *testing.T) {
	standby := resolver.Rules{Service: "db", Failover: []identity.Name{"db2", "db3"}}
	split := resolver.Rules{Service: "db", Split: map[identity.Name]int{"v1": 90, "v2": 10, "old": 0},
		Subsets: map[identity.Name]resolver.Subset{"v1": {Tag: "v1"}, "v2": {Tag: "v2"}, "old": {Tag: "old"}}}
	for name, c := range map[string]struct {
		rules resolver.Rules
		mesh  mesh
		allow identity.Name
		want  string // of port 5432 of db
	}{
		"itself, no standby needed":  {standby, mesh{on("host2", "db", 5432)}, "", "daemon"},
		"a standby":                  {standby, mesh{down("host2", "db", 5432, "x"), on("host2", "db2", 5432)}, "db2", "daemon"},
		"a standby here":             {standby, mesh{down("host2", "db", 5432, "x"), on("host1", "db2", 5432)}, "db2", "daemon"},
		"the second standby":         {standby, mesh{down("host2", "db", 5432, "x"), on("host2", "db2", 5432), on("host2", "db3", 5432)}, "db3", "daemon"},
		"no caller may":              {standby, mesh{down("host2", "db", 5432, "x"), on("host2", "db2", 5432)}, "other", "nowhere"},
		"the standby is down":        {standby, mesh{down("host2", "db", 5432, "x"), down("host2", "db2", 5432, "x")}, "db2", "nowhere"},
		"never registered":           {standby, mesh{on("host2", "db2", 5432)}, "db2", "daemon"},
		"one subset, which is here":  {split, mesh{tagged("host1", "db", 5432, "v1")}, "", "program"},
		"two subsets, one is here":   {split, mesh{tagged("host1", "db", 5432, "v1"), tagged("host2", "db", 5432, "v2")}, "", "daemon"},
		"what is here has no weight": {split, mesh{tagged("host1", "db", 5432, "old"), tagged("host2", "db", 5432, "v2")}, "", "daemon"},
		"only what has no weight":    {split, mesh{tagged("host1", "db", 5432, "old")}, "", "nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			here := local("db", 5432, inventory.Listener{State: inventory.StateVerified, Addr: netip.MustParseAddrPort("127.0.0.1:5432")})
			here.ClientAddress = definition.ClientLoopback
			web := inventory.Service{Definition: definition.Definition{Name: "web", ID: "web"}, Cgroups: []workload.Cgroup{{Path: "/web", ID: 7}}}
			in := Input{View: &inventory.View{Services: []inventory.Service{here, web}}, Granted: everything,
				Proven: func(catalog.Instance) []netip.Addr { return nil },
				Names:  func(map[identity.Name][]string) (domains, hosts []string, crowded bool) { return nil, nil, false },
				Table:  policy.NewTable(policy.Deny, []policy.Intention{{Source: "web", Destination: c.allow, Action: policy.Allow}}),
			}
			in.Catalog = catalog.New("host1", ruled{c.mesh, c.rules}, everything)
			s, _ := Compile(in)
			var got []string
			for _, e := range s.Endpoints {
				if e.Service != "db" {
					continue
				}
				switch {
				case e.Local.IsValid():
					got = append(got, "program")
				case e.Remote:
					got = append(got, "daemon")
				default:
					got = append(got, "nowhere")
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%v, want %s", got, c.want)
			}
			subsets := map[identity.Name]bool{}
			for _, a := range s.Aliases {
				subsets[a.Name] = a.Service == "db"
			}
			if len(subsets) != len(c.rules.Subsets) || len(subsets) > 0 && !subsets["v1.db"] {
				t.Errorf("aliases %v", s.Aliases)
			}
			if g, splits := s.Guards[0], c.rules.Split != nil; g.Carried != splits || g.Loopback == splits {
				t.Errorf("the guard of db's port: %+v", g)
			}
		})
	}
}

// TestCompileSubsets: each subset has the service's ports, which lead to the daemon
// where the subset, or a service that stands in, has an instance.
func TestCompileSubsets(t *testing.T) {
	rules := resolver.Rules{Service: "db", Subsets: map[identity.Name]resolver.Subset{"v1": {Tag: "v1"}, "v2": {Tag: "v2"}}}
	var names map[identity.Name][]string
	in := Input{View: &inventory.View{Services: []inventory.Service{local("db", 5432, inventory.Listener{State: inventory.StateVerified, Addr: netip.MustParseAddrPort("127.0.0.1:5432")})}},
		Granted: everything, Proven: func(catalog.Instance) []netip.Addr { return nil }, Table: policy.NewTable(policy.Deny, nil),
		Names: func(n map[identity.Name][]string) (domains, hosts []string, crowded bool) {
			names = n
			return nil, nil, false
		},
		Catalog: catalog.New("host1", ruled{mesh{tagged("host1", "db", 5432, "v1"), tagged("host2", "db", 6432, "v2")}, rules}, everything)}
	s, _ := Compile(in)
	var got []string
	for _, e := range s.Endpoints {
		got = append(got, fmt.Sprintf("%s:%d %v %v", e.Service, e.Port, e.Local.IsValid(), e.Remote))
	}
	const want = "db:5432 true false; db:6432 false true; v1.db:5432 false true; v1.db:6432 false false; v2.db:5432 false false; v2.db:6432 false true"
	if strings.Join(got, "; ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "; "), want)
	}
	if fmt.Sprint(names) != "map[db:[v1 v2 v1 v2]]" {
		t.Errorf("names %v", names)
	}
}

// TestSettleResolver: new rules are in force after one look, and change the digest
// that is announced, though no map may change.
func TestSettleResolver(t *testing.T) {
	h := &ruledHost{host: &host{mesh: mesh{on("host2", "db", 5432)}}}
	l, _ := newLoopOf(h.host, h)
	l.Settle()
	before := l.Digest()
	h.rules = []resolver.Rules{{Service: "db", Failover: []identity.Name{"db2"}}}
	h.digest++
	l.Nudge()
	l.Settle()
	if _, ok := l.Catalog().Rules("db"); !ok || l.Digest() == before || l.InForce() != l.Digest() {
		t.Errorf("rules in force: %v, digest %s, before %s", ok, l.InForce(), before)
	}
	if got := fmt.Sprint(h.announced); !strings.Contains(got, l.Digest()) {
		t.Errorf("announced %s", got)
	}
}

type ruledHost struct {
	*host
	rules []resolver.Rules
}

func (h *ruledHost) Resolvers() []resolver.Rules { return h.rules }

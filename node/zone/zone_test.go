// SPDX-License-Identifier: Apache-2.0

package zone

import (
	"fmt"
	"net/netip"
	"testing"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
)

type records []statement.Instance

func (r records) Instances() []statement.Instance { return r }
func (records) Resolvers() []resolver.Rules {
	return []resolver.Rules{{Service: "db", Subsets: map[identity.Name]resolver.Subset{"a": {Tag: "a"}}}}
}

func (r records) Vouched(_, _ identity.Name) []string { return nil }
func (r records) Node(n identity.Name) (statement.Node, bool) {
	return statement.Node{Node: n, Address: "10.0.0.1", Also: []string{"2001:db8::1", "no address"}}, n == "host1" || n == "host2"
}

// fixture is host1's zone; host2 doesn't answer.
func fixture() Zone {
	r := records{
		{Node: "host1", Service: "db", ID: "db", Port: 5432, Tags: []string{"a"}, Weight: 2},
		{Node: "host1", Service: "db", ID: "db-2", Port: 5433, Down: statement.DownListener},
		{Node: "host2", Service: "db", ID: "db", Port: 5432},
		{Node: "host1", Service: "job", ID: "job"},
	}
	c := catalog.New("host1", r, func(identity.Name) bool { return false })
	return Zone{Config{
		Probe: func(name identity.Name) (v4, v6 netip.Addr, ok bool) {
			return netip.MustParseAddr("127.0.0.9"), v6, name == "probe"
		},
		Catalog: func() *catalog.Catalog { return c },
		Virtual: func(name identity.Name) (v4, v6 netip.Addr) {
			switch name {
			case "db":
				v4 = netip.MustParseAddr("127.0.0.7")
			case "a.db":
				v4 = netip.MustParseAddr("127.0.0.8")
			}
			return v4, v6
		},
		Record: r.Node,
		Number: func(a netip.Addr) (uint32, bool) { b := a.As4(); return uint32(b[3]), b[0] == 127 },
		Name: func(number uint32) (identity.Name, bool) {
			return map[uint32]identity.Name{7: "db", 8: "a.db"}[number], number == 7 || number == 8
		},
	}}
}

// TestInstances: names lead to instances that can be called and have a port: a
// program that has ended, or a node that doesn't answer, is not healthy.
func TestInstances(t *testing.T) {
	if got, want := fmt.Sprint(fixture().Instances("db")), "[{5432 [a] 2 true} {5433 [] 0 false} {5432 [] 0 false}]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := fmt.Sprint(fixture().Instances("a.db")), "[{5432 [a] 2 true}]"; got != want {
		t.Errorf("a subset: got  %s\nwant %s", got, want)
	}
	if got := fixture().Instances("job"); len(got) != 0 {
		t.Errorf("a program that only calls others: %v", got)
	}
}

// TestLookup: the self-probe's service, those with a port, and nobody else.
func TestLookup(t *testing.T) {
	for name, want := range map[identity.Name]string{"probe": "127.0.0.9 true", "db": "127.0.0.7 true", "a.db": "127.0.0.8 true", "b.db": "invalid IP false", "a.ghost": "invalid IP false", "job": "invalid IP false", "ghost": "invalid IP false"} {
		v4, _, ok := fixture().Lookup(name)
		if got := fmt.Sprint(v4, " ", ok); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestNode: the addresses of a member's record, those that it has besides too.
func TestNode(t *testing.T) {
	for name, want := range map[identity.Name]string{"host1": "[10.0.0.1 2001:db8::1]", "host9": "[]"} {
		if got := fmt.Sprint(fixture().Node(name)); got != want {
			t.Errorf("%s is at %s, want %s", name, got, want)
		}
	}
}

// TestOwner: a virtual address belongs to the service with its number.
func TestOwner(t *testing.T) {
	for addr, want := range map[string]identity.Name{"127.0.0.7": "db", "127.0.0.8": "db", "10.0.0.1": ""} {
		if got := fixture().Owner(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s belongs to %q, want %q", addr, got, want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/gossip"
	"tacit/node/records"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// TestSeeds: every member that was ever up, at its own gossip port, and
// the addresses of --join, whose port is that of lanes.
func TestSeeds(t *testing.T) {
	n := newNode(t)
	admit(t, n, "host2", "10.0.0.2")
	admit(t, n, "host3", "2001:db8::3")
	admit(t, n, "host4", "")
	sign(t, n, n.member.Key, records.Change{Kind: ledger.KindNode, Key: "host1", Body: statement.Node{Node: "host1", Address: "10.0.0.1", LanePort: 7947, GossipPort: 7946}})
	n.cfg.Join = []string{"10.0.0.9", "10.0.0.8:7947", "2001:db8::9", "[2001:db8::8]:7947", "peer.test"}
	want := []gossip.Seed{{Name: "host1", Addr: "10.0.0.1:7946"}, {Name: "host2", Addr: "10.0.0.2:7900"}, {Name: "host3", Addr: "[2001:db8::3]:7900"}}
	for _, addr := range []string{"10.0.0.9:7946", "10.0.0.8:7946", "[2001:db8::9]:7946", "[2001:db8::8]:7946", "peer.test:7946"} {
		want = append(want, gossip.Seed{Addr: addr})
	}
	if got := n.seeds(); !slices.Equal(got, want) {
		t.Errorf("seeds\ngot  %q\nwant %q", got, want)
	}
}

// TestVirtual: a service keeps its addresses, no two have the same, and where
// the range is used up there are none.
func TestVirtual(t *testing.T) {
	n := newNode(t)
	db4, db6 := n.virtual("db")
	web4, web6 := n.virtual("web")
	if !n.cfg.Range4.Contains(db4) || !n.cfg.Range6.Contains(db6) || db4 == web4 || db6 == web6 {
		t.Errorf("db is %s and %s, web %s and %s", db4, db6, web4, web6)
	}
	if v4, v6 := (names{n: n}).Virtual("db"); v4 != db4 || v6 != db6 {
		t.Errorf("db is %s and %s now", v4, v6)
	}
	n.ipv6 = false
	if v4, v6 := n.virtual("db"); v4 != db4 || v6.IsValid() {
		t.Errorf("on a host without IPv6: %s and %s", v4, v6)
	}
	n.cfg.Range4 = netip.MustParsePrefix("240.64.0.0/31")
	if v4, _ := n.virtual("web"); v4.IsValid() {
		t.Errorf("in a range of two addresses: %s", v4)
	}
}

// TestGrantOwn: a node with an operator key grants itself what it runs, once;
// another one says which nodes can.
func TestGrantOwn(t *testing.T) {
	n := newNode(t)
	s := n.signer()
	key := n.member.Operator
	n.member.Operator = nil
	var refused *api.Error
	if err := s.GrantOwn("db"); !errors.As(err, &refused) {
		t.Fatalf("without a key: %v", err)
	}
	if refused.Code != api.CodeRefused || refused.Reason != "grant" || refused.Message != "service db is not granted to node host1" ||
		refused.Hint != "on a node with an operator key: tacit node grant host1 --service db" || !slices.Equal(refused.Nodes, []string{"host1"}) {
		t.Errorf("without a key: %+v", refused)
	}
	n.member.Operator = key
	for range 2 {
		if err := s.GrantOwn("db"); err != nil || !n.records.View().Granted("host1", "db") {
			t.Fatalf("with a key: %v", err)
		}
	}
	if grants := n.records.View().SignedBy(key.Key().ID()); len(grants) != 1 {
		t.Errorf("signed %d grants, want 1", len(grants))
	}
	n.member.Operator = nil
	if err := s.GrantOwn("db"); err != nil {
		t.Errorf("granted already, without a key: %v", err)
	}
	n.member.Operator = key
	if err := s.Grant("host1", "db", true); err != nil || n.records.View().Granted("host1", "db") {
		t.Errorf("withdrawn: %v", err)
	}
}

// TestVouchOwn: a node with an operator key vouches for what is defined on it, and
// keeps what was vouched for before; another one runs the service all the same.
func TestVouchOwn(t *testing.T) {
	n := newNode(t)
	for _, step := range []struct {
		claims  []string
		withKey bool
		want    []string
		signs   bool
	}{
		{[]string{"a.example"}, true, []string{"a.example"}, true},
		{[]string{"a.example"}, true, []string{"a.example"}, false},
		{[]string{"203.0.113.5:5432"}, true, []string{"a.example", "203.0.113.5:5432"}, true},
		{[]string{"b.example"}, false, []string{"a.example", "203.0.113.5:5432"}, false},
		{nil, true, []string{"a.example", "203.0.113.5:5432"}, false},
	} {
		before := n.records.View().Digest()
		s := n.signer()
		key := n.member.Operator
		if !step.withKey {
			n.member.Operator = nil
		}
		err := s.GrantOwn("rds", step.claims...)
		n.member.Operator = key
		if got := n.records.View().Vouched("host1", "rds"); err != nil || !slices.Equal(got, step.want) || (n.records.View().Digest() != before) != step.signs {
			t.Errorf("%v: %v, %v; want %v", step.claims, got, err, step.want)
		}
	}
}

// TestSignInstance publishes with the node's key, and withdraws.
func TestSignInstance(t *testing.T) {
	n := newNode(t)
	s := n.signer()
	if err := s.Grant("host1", "db", false); err != nil {
		t.Fatal(err)
	}
	body := statement.Instance{Node: "host1", Service: "db", ID: "db-1", Port: 5432}
	for _, step := range []struct {
		withdraw bool
		want     string
	}{{false, "db-1:5432"}, {false, "db-1:5432"}, {true, ""}} {
		if err := s.SignInstance(body, step.withdraw); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, in := range n.records.View().Instances() {
			got = append(got, fmt.Sprintf("%s:%d", in.ID, in.Port))
		}
		if strings.Join(got, " ") != step.want {
			t.Errorf("published %q, want %q", got, step.want)
		}
	}
}

func TestOrNobody(t *testing.T) {
	for name, want := range map[identity.Name]identity.Name{"": "nobody", "web": "web"} {
		if got := orNobody(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}

// TestClose: what was opened last is closed first; an empty node closes nothing.
func TestClose(t *testing.T) {
	n := newNode(t)
	n.close()
	var closed []int
	for i := range 3 {
		n.opened(closing(func() { closed = append(closed, i) }))
	}
	n.close()
	if !slices.Equal(closed, []int{2, 1, 0}) {
		t.Errorf("closed in the order %v", closed)
	}
}

type closing func()

func (c closing) Close() error {
	c()
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/policy/ledger/statement"
)

// outside is an instance of a service outside of the mesh, with the id of its node.
func outside(node, service identity.Name, port uint16, o statement.Outside) statement.Instance {
	return statement.Instance{Node: node, Service: service, ID: string(node), Port: port, Outside: &o}
}

// TestClaims: real names and addresses are the first service's, and count only where
// an operator has vouched for them; the node that claims them for nothing says so.
func TestClaims(t *testing.T) {
	alone := outside("here", "cdn", 443, statement.Outside{Hosts: []string{"own.example"}, Addresses: []string{"203.0.113.9:443"}})
	elsewhere := outside("there", "evil", 443, statement.Outside{Hosts: []string{"bank.example"}, Addresses: []string{"203.0.113.1:443"}})
	alone.Meta, elsewhere.Meta = map[string]string{"vouched": "no"}, map[string]string{"vouched": "no"}
	c := New("here", records{alone, elsewhere,
		outside("there", "rds", 5432, statement.Outside{Hosts: []string{"a.example", "both.example"}, Addresses: []string{"203.0.113.5:5432", "[2001:db8::5]:5433"}}),
		outside("here", "rds", 5432, statement.Outside{Hosts: []string{"a.example"}, Addresses: []string{"203.0.113.5:5432"}}),
		outside("there", "saas", 443, statement.Outside{Hosts: []string{"both.example"}, Addresses: []string{"203.0.113.5:5432", "203.0.113.6:443"}}),
	}, func(identity.Name) bool { return true })
	claims := c.Claims()
	if got := fmt.Sprint(claims.Hosts); got != "map[a.example:rds both.example:rds]" {
		t.Error(got)
	}
	want := map[string]Endpoint{"203.0.113.5:5432": {Service: "rds", Port: 5432}, "[2001:db8::5]:5433": {Service: "rds", Port: 5432}, "203.0.113.6:443": {Service: "saas", Port: 443}}
	for at, e := range want {
		if got := claims.Addresses[netip.MustParseAddrPort(at)]; got != e {
			t.Errorf("%s: %v, want %v", at, got, e)
		}
	}
	if len(claims.Addresses) != len(want) {
		t.Error(claims.Addresses)
	}
	problems := map[string]string{"both.example": "rds and saas both claim it: it is rds", "203.0.113.5:5432": "rds and saas both claim it: it is rds",
		"own.example": "no operator has vouched that own.example is cdn", "203.0.113.9:443": "no operator has vouched that 203.0.113.9:443 is cdn"}
	for what, text := range problems {
		if err := claims.Problems[what]; err == nil || !strings.HasPrefix(err.Error(), text) {
			t.Errorf("%s: %v, want %s", what, err, text)
		}
	}
	if len(claims.Problems) != len(problems) {
		t.Error(claims.Problems)
	}
}

// TestDirect: with reach = "any" an instance is called from each node, whether its
// own node answers or not; else only from its own, or through that by a lane.
func TestDirect(t *testing.T) {
	here, anywhere := statement.Outside{Hosts: []string{"a.example"}}, statement.Outside{Hosts: []string{"a.example"}, Anywhere: true}
	broken := outside("far", "rds", 5432, anywhere)
	broken.Down = "check up"
	more := outside("far", "rds", 5432, anywhere)
	more.ID = "more"
	c := New("here", records{outside("here", "rds", 5432, here), outside("there", "rds", 5432, here), broken, more},
		func(identity.Name) bool { return false })
	var direct, healthy []string
	for _, in := range c.Instances("rds") {
		if in.Direct() {
			direct = append(direct, in.ID)
		}
		if in.Healthy {
			healthy = append(healthy, in.ID)
		}
	}
	if got := fmt.Sprint(direct, healthy); got != "[far more here] [more here]" {
		t.Error(got)
	}
	if got := len(c.Outsiders()); got != 3 {
		t.Errorf("%d instances are reached from here, want 3", got)
	}
	if in, ok := c.Find("rds", "far", 5432, ""); !ok || in.ID != "far" {
		t.Error(in)
	}
	if _, ok := c.Find("rds", "far", 5433, "far"); ok {
		t.Error("an instance was found by another port")
	}
}

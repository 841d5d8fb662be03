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
)

// line is a node as one line.
func line(n api.Node) string {
	marks := []string{string(n.Name), n.Address}
	for _, m := range []struct {
		name string
		has  bool
	}{{"alive", n.Alive}, {"local", n.Local}, {"authority", n.Authority}, {"operator", n.Operator}} {
		if m.has {
			marks = append(marks, m.name)
		}
	}
	return strings.Join(marks, " ") + fmt.Sprintf(" runs %v", n.Grants)
}

func lines(list []api.Node) string {
	var out []string
	for _, n := range list {
		out = append(out, line(n))
	}
	return strings.Join(out, "\n")
}

func TestNodes(t *testing.T) {
	f := newFixture(t)
	f.admit(t, "host3", "") // never up
	f.runs(t, "host2", f.admit(t, "host2", "10.0.0.2"), "db", 5432)
	f.operator(t, "host2")
	f.records.revisions["host2"] = "0123456789abcdef"
	f.records.revisions["host1"] = "what host1 said long ago"
	list, err := f.Nodes.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	differs(t, "list", lines(list), `host1 10.0.0.1 alive local authority operator runs []
host2 10.0.0.2 alive operator runs [db]
host3  runs []`)
	for _, n := range list {
		want := map[identity.Name]string{"host1": f.loop.InForce(), "host2": "0123456789abcdef"}[n.Name]
		if n.PolicyDigest != want || n.ID != "spiffe://mesh.test/node/"+string(n.Name) {
			t.Errorf("%s has the policy %q and the id %s, want %q", n.Name, n.PolicyDigest, n.ID, want)
		}
		shown, err := f.Nodes.Show(t.Context(), n.Name)
		if err != nil || line(*shown) != line(n) || shown.Version != n.Version {
			t.Errorf("show %s: %v, %v; list has %v", n.Name, shown, err, n)
		}
	}
	_, err = f.Nodes.Show(t.Context(), "host9")
	differs(t, "show host9", says(err), "2: no node is called host9 [tacit nodes lists the members]")
}

// TestNodeRefusals: what is refused, and what the CLI is told to do instead.
func TestNodeRefusals(t *testing.T) {
	const hint = " [run the same command on a node that does] on host1, host2"
	grant := func(node identity.Name) func(*testing.T, *fixture) error {
		return func(t *testing.T, f *fixture) error {
			_, err := f.Nodes.Grant(t.Context(), api.GrantRequest{Node: node, Services: []identity.Name{"db"}})
			return err
		}
	}
	token := func(node identity.Name) func(*testing.T, *fixture) error {
		return func(t *testing.T, f *fixture) error {
			_, err := f.Nodes.CreateToken(t.Context(), api.TokenRequest{Node: node})
			return err
		}
	}
	for name, c := range map[string]struct {
		noKey bool
		do    func(*testing.T, *fixture) error
		want  string
	}{
		"grant without a key": {true, grant("host2"), "1: granting needs an operator key, and this node (host1) holds none" + hint},
		"token without a key": {true, token("host9"), "1: making a token needs an operator key, and this node (host1) holds none" + hint},
		"grant to nobody":     {false, grant("host9"), "2: no node is called host9 [tacit nodes lists the members; a new node's grants go into its token]"},
		"token for a name in use": {false, token("host2"),
			"1: the name host2 is taken by a member [tacit nodes lists the members; revoke that one first if it is gone for good]"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.admit(t, "host2", "10.0.0.2")
			f.operator(t, "host2")
			if c.noKey {
				f.Member.Operator = nil
			}
			before := f.records.signed
			differs(t, name, says(c.do(t, f)), c.want)
			if f.records.signed != before {
				t.Error("something was changed all the same")
			}
		})
	}
}

// TestGrant signs what isn't so already, and nothing else.
func TestGrant(t *testing.T) {
	f := newFixture(t)
	f.admit(t, "host2", "10.0.0.2")
	for _, step := range []struct {
		services []identity.Name
		outside  []string
		withdraw bool
		signs    int
		runs     []identity.Name
		vouched  string
	}{
		{[]identity.Name{"db", "web"}, nil, false, 2, []identity.Name{"db", "web"}, "map[]"},
		{[]identity.Name{"db", "cache"}, nil, false, 1, []identity.Name{"cache", "db", "web"}, "map[]"},
		{[]identity.Name{"db"}, []string{"a.example"}, false, 1, []identity.Name{"cache", "db", "web"}, "map[db:[a.example]]"},
		{[]identity.Name{"db"}, []string{"a.example"}, false, 0, []identity.Name{"cache", "db", "web"}, "map[db:[a.example]]"},
		{[]identity.Name{"db"}, nil, false, 0, []identity.Name{"cache", "db", "web"}, "map[db:[a.example]]"},
		{[]identity.Name{"db"}, []string{"b.example"}, false, 1, []identity.Name{"cache", "db", "web"}, "map[db:[a.example b.example]]"},
		{[]identity.Name{"db", "other"}, []string{"a.example"}, true, 1, []identity.Name{"cache", "db", "web"}, "map[db:[b.example]]"},
		{[]identity.Name{"db", "other"}, nil, true, 1, []identity.Name{"cache", "web"}, "map[]"},
	} {
		before := f.records.signed
		out, err := f.Nodes.Grant(t.Context(), api.GrantRequest{Node: "host2", Services: step.services, Outside: step.outside, Withdraw: step.withdraw})
		if err != nil {
			t.Fatal(err)
		}
		if n := f.records.signed - before; n != step.signs || !slices.Equal(out.Node.Grants, step.runs) || fmt.Sprint(out.Node.Outside) != step.vouched {
			t.Errorf("%+v: %d records signed, host2 may run %v, as %v", step, n, out.Node.Grants, out.Node.Outside)
		}
	}
}

// TestCreateToken: the token carries its grants, which aren't in force yet. A
// member that was never up may have lost the answer: it gets another one.
func TestCreateToken(t *testing.T) {
	f := newFixture(t)
	f.admit(t, "host3", "")
	for _, node := range []identity.Name{"host2", "host3"} {
		out, err := f.Nodes.CreateToken(t.Context(), api.TokenRequest{Node: node, Services: []identity.Name{"db", "web"}, TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		token, err := identity.ParseToken(out.Token)
		if err != nil {
			t.Fatal(err)
		}
		if token.Node != node || len(token.Grants) != 2 || !slices.Equal(token.Addresses, []string{"10.0.0.1:7947"}) || !token.Expires.Equal(out.Expires.Truncate(time.Second)) && !token.Expires.Equal(out.Expires) {
			t.Errorf("token %+v of %+v", token, out)
		}
		if left := time.Until(out.Expires); left <= 0 || left > time.Minute {
			t.Errorf("it is good for %s, want a minute", left)
		}
		if f.records.View().Granted(node, "db") {
			t.Errorf("%s is granted db before the token is used", node)
		}
	}
}

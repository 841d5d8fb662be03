// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/catalog"
	"tacit/node/records"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
	"tacit/tproxy"
)

// TestIngresses: where each node takes plain connections, and how many are live
// here.
func TestIngresses(t *testing.T) {
	f := newFixture(t)
	for node, key := range map[identity.Name]*identity.Key{"host1": f.Member.Key, "host2": f.admit(t, "host2", "10.0.0.2")} {
		testGrant(t, f, node, "ingress/a")
		f.sign(t, key, records.Change{Kind: ledger.KindInstance, Key: string(node) + "/ingress/a", Body: statement.Instance{
			Node: node, Service: "ingress/a", ID: "ingress/a", Ingress: &statement.Ingress{Listen: "*:80", Service: "web", Port: 8443}}})
	}
	f.proxy.flows = []tproxy.Flow{
		{Source: "ingress/a", Destination: "web", Direction: tproxy.DirectionOut},
		{Source: "ingress/a", Destination: "web", Direction: tproxy.DirectionLocal},
		{Source: "ingress/a", Destination: "web", Direction: tproxy.DirectionIn}, // at another node
		{Source: "ingress/b", Destination: "web", Direction: tproxy.DirectionOut},
	}
	f.loop.catalog = catalog.New("host1", f.records.View(), func(identity.Name) bool { return true })
	s, err := f.Services.Show(t.Context(), "ingress/a")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, in := range s.Instances {
		got = append(got, fmt.Sprintf("%s: %s, %d live", in.Node, in.Ingress, in.Ingress.Connections))
	}
	differs(t, s.ID, strings.Join(got, "\n"), "host1: *:80 -> web:8443, 2 live\nhost2: *:80 -> web:8443, 0 live")
}

func testGrant(t *testing.T, f *fixture, node, service identity.Name) {
	t.Helper()
	if err := f.Grant(node, service, false); err != nil {
		t.Fatal(err)
	}
}

// TestIngressExplained: a rule for every service doesn't count, and the answer says
// why; a rule that names the ingress does.
func TestIngressExplained(t *testing.T) {
	f := newFixture(t)
	f.intend(t, "allow * db", "allow * *")
	for _, step := range []struct{ rule, why string }{
		{"", "No intention that names the ingress matches, so it is denied: * and the default let none in."},
		{"deny * *", "The intention deny * -> * decides: it names neither service."},
		{"allow ingress/a db", "The intention allow ingress/a -> db decides: it names both services. One less specific intention matches too, and loses."},
	} {
		if step.rule != "" {
			f.intend(t, step.rule)
		}
		e, err := f.Intentions.Explain(t.Context(), "ingress/a", "db")
		if err != nil || e.Why != step.why {
			t.Errorf("%q: %v, %+v", step.rule, err, e)
		}
	}
	r, err := f.Intentions.Change(t.Context(), api.IntentionChange{Source: "ingress/a", Destination: "db", Action: api.ChangeDelete})
	if err != nil || r.After.Allowed || !r.Before.Allowed {
		t.Errorf("deleted: %v, %+v", err, r)
	}
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/records"
	"tacit/policy/kernel"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
)

func wanted(rules ...string) (out []api.Wanted) {
	for line, rule := range rules {
		words := strings.Fields(rule)
		out = append(out, api.Wanted{Action: api.Change(words[0]), Source: identity.Name(words[1]), Destination: identity.Name(words[2]),
			Description: strings.Join(words[3:], " "), From: fmt.Sprintf("a.hcl:%d", line+1)})
	}
	return out
}

func planLines(plan []api.Planned) string {
	var out []string
	for _, p := range plan {
		out = append(out, fmt.Sprintf("%s %s to %s %s", p.Operation, ruleLine(p.Before), ruleLine(p.After), p.From))
	}
	return strings.Join(out, "\n")
}

// TestApply: the plan, a dry run, the transaction, and what is left alone.
func TestApply(t *testing.T) {
	f := newFixture(t)
	f.intend(t, "allow web db", "deny api db", "allow log db", "allow old db")
	r := api.ApplyRequest{DryRun: true, Intentions: wanted("allow web db", "allow api db", "deny * cache", "allow log db now described")}
	out, err := f.Intentions.Apply(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	want := `change deny api>db (9) to allow api>db (9) a.hcl:2
change allow log>db (9) to allow log>db (9) a.hcl:4
add no rule to deny *>cache (8) a.hcl:3`
	differs(t, "plan", planLines(out.Plan), want)
	if out.Applied || out.Unchanged != 1 || len(f.loop.Policy().List()) != 4 {
		t.Errorf("a dry run: %+v", out)
	}
	differs(t, "warnings", strings.Join(out.Warnings, "\n"), "no instance of api, cache, db, log, web is known yet")

	r.DryRun, r.Wait = false, true
	if out, err = f.Intentions.Apply(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	differs(t, "plan", planLines(out.Plan), want)
	if d := f.loop.Policy().Decide("api", "db"); !out.Applied || !d.Allowed || len(f.loop.Policy().List()) != 5 || out.InForce != 1 {
		t.Errorf("applied: %+v, %+v", out, d)
	}
	if out, err = f.Intentions.Apply(t.Context(), r); err != nil || out.Applied || out.Unchanged != 4 || len(out.Plan) > 0 {
		t.Errorf("again: %+v, %v", out, err)
	}

	r.Prune = true
	_, err = f.Intentions.Apply(t.Context(), r)
	differs(t, "prune", says(err), "1: --prune would delete 1 of 5 intentions [look at the plan (--dry-run), and repeat it with --yes if that is meant]")
	r.Yes = true
	if out, err = f.Intentions.Apply(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	differs(t, "pruned", planLines(out.Plan), "remove allow old>db (9) to no rule")
	if n := len(f.loop.Policy().List()); n != 4 {
		t.Errorf("%d intentions left", n)
	}
}

// TestApplyNeedsOperator: a node without an operator key may plan, and change nothing.
func TestApplyNeedsOperator(t *testing.T) {
	f := newFixture(t)
	f.Member.Operator = nil
	r := api.ApplyRequest{Intentions: wanted("allow web db")}
	_, err := f.Intentions.Apply(t.Context(), r)
	differs(t, "apply", says(err), "1: changing intentions needs an operator key, and this node (host1) holds none [run the same command on a node that does] on host1")
	r.DryRun = true
	if out, err := f.Intentions.Apply(t.Context(), r); err != nil || len(out.Plan) != 1 {
		t.Errorf("a dry run: %+v, %v", out, err)
	}
}

// TestFullKernel: what doesn't fit is refused before it is signed. A deny comes
// into force all the same, because an allow gives way.
func TestFullKernel(t *testing.T) {
	f := newFixture(t)
	f.intend(t, "allow web db")
	f.kernel.rooms = []kernel.Room{{What: "workloads", Used: 9, Of: 9}, {What: "intentions", Used: 3, Of: 4}}
	const refusal = "1: 3 of 4 intentions are in use in this node's kernel, and 2 more don't fit: nothing was changed [run tacitd cleanup and start it with a larger --max-intentions, on every node, or delete some (tacit intention list)]"
	_, err := f.Intentions.Apply(t.Context(), api.ApplyRequest{Intentions: wanted("allow a db", "deny b db")})
	differs(t, "two", says(err), refusal)
	if _, err := f.Intentions.Apply(t.Context(), api.ApplyRequest{Prune: true, Yes: true, Intentions: wanted("allow a db", "deny b db")}); err != nil {
		t.Errorf("two for one: %v", err)
	}
	f.kernel.rooms[1].Used = 4
	change := func(action api.Change, source identity.Name) (*api.ChangeResult, error) {
		return f.Intentions.Change(t.Context(), api.IntentionChange{Source: source, Destination: "db", Action: action})
	}
	if _, err := change(api.ChangeAllow, "c"); !strings.Contains(says(err), "1: 4 of 4 intentions are in use") {
		t.Errorf("one allow: %s", says(err))
	}
	if _, err := change(api.ChangeDeny, "a"); err != nil {
		t.Errorf("a change of one that is there: %v", err)
	}
	out, err := change(api.ChangeDeny, "c")
	if err != nil || !strings.Contains(strings.Join(out.Warnings, "\n"), "an allow gives way") {
		t.Errorf("one deny: %+v, %v", out, err)
	}
}

// TestSubsetsFit: a rule needs an entry for each subset of its destination, too.
func TestSubsetsFit(t *testing.T) {
	f := newFixture(t)
	f.intend(t, "allow web db", "deny api db", "allow web cache")
	f.kernel.rooms = []kernel.Room{{What: "intentions", Used: 3, Of: 6}}
	rules := resolver.Rules{Service: "db", Subsets: map[identity.Name]resolver.Subset{"v1": {Tag: "v1"}, "v2": {Tag: "v2"}}}
	r := api.ApplyRequest{Resolvers: []api.WantedRules{{Rules: rules}}}
	_, err := f.Intentions.Apply(t.Context(), r)
	if !strings.Contains(says(err), "3 of 6 intentions are in use in this node's kernel, and 4 more don't fit") {
		t.Errorf("two subsets: %s", says(err))
	}
	delete(rules.Subsets, "v2")
	if _, err := f.Intentions.Apply(t.Context(), r); err != nil {
		t.Errorf("one subset: %v", err)
	}
	f.kernel.rooms[0].Used = 5
	_, err = f.Intentions.Change(t.Context(), api.IntentionChange{Source: "c", Destination: "db", Action: api.ChangeAllow})
	if !strings.Contains(says(err), "and 2 more don't fit") {
		t.Errorf("one intention: %s", says(err))
	}
}

// TestApplyResolvers: the rules for services' connections are planned, signed, shown
// and pruned with the intentions.
func TestApplyResolvers(t *testing.T) {
	f := newFixture(t)
	host2 := f.admit(t, "host2", "10.0.0.2")
	f.runs(t, "host2", host2, "db", 5432)
	f.runs(t, "host2", host2, "db2", 5432)
	rules := resolver.Rules{Service: "db", Subsets: map[identity.Name]resolver.Subset{"v1": {Tag: "v1"}}, Failover: []identity.Name{"db2", "db3"}}
	r := api.ApplyRequest{DryRun: true, Resolvers: []api.WantedRules{{Rules: rules, From: "a.hcl:1"}}}
	apply := func(want string) *api.ApplyResult {
		t.Helper()
		out, err := f.Intentions.Apply(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range out.Resolvers {
			got = append(got, fmt.Sprintf("%s %s to %s %s", p.Operation, p.Service, p.After, p.From))
		}
		differs(t, "plan", strings.Join(got, "\n"), want)
		return out
	}
	out := apply("add db to subset v1 (tag v1); failover db2, db3 a.hcl:1")
	differs(t, "warnings", strings.Join(out.Warnings, "\n"), "no instance of db3 is known yet\nno instance of db is in the subset v1 (tag v1) yet")
	if shown, _ := f.Services.Show(t.Context(), "db"); out.Applied || shown.Resolver != nil {
		t.Errorf("a dry run: %+v", shown.Resolver)
	}
	r.DryRun = false
	digest := f.loop.Digest()
	apply("add db to subset v1 (tag v1); failover db2, db3 a.hcl:1")
	shown, err := f.Services.Show(t.Context(), "db")
	if err != nil || !shown.Resolver.Equal(rules) || fmt.Sprintf("%v %q %v", shown.Resolver.SignedBy, shown.Resolver.Standby, shown.Resolver.Conflict) != `[host1] "" false` {
		t.Errorf("%+v, %v", shown, err)
	}
	if f.loop.Digest() == digest {
		t.Error("the digest doesn't tell the rules")
	}
	if out := apply(""); out.Unchanged != 1 || out.Applied {
		t.Errorf("again: %+v", out)
	}
	f.sign(t, host2, records.Change{Kind: ledger.KindInstance, Key: "host2/db",
		Body: statement.Instance{Node: "host2", Service: "db", ID: "db", Port: 5432, Down: "listener", Tags: []string{"v1"}}})
	r.Resolvers[0].Split = map[identity.Name]int{"v1": 1}
	apply("change db to subset v1 (tag v1); split v1 = 1; failover db2, db3 a.hcl:1")
	if shown, _ := f.Services.Show(t.Context(), "db"); fmt.Sprintf("%v %s", shown.Resolver.Sets, shown.Resolver.Standby) != "[{v1 1 0 0}] db2" {
		t.Errorf("%+v", shown.Resolver)
	}

	r = api.ApplyRequest{Prune: true}
	_, err = f.Intentions.Apply(t.Context(), r)
	differs(t, "prune", says(err), "1: --prune would delete 1 of 1 resolvers [look at the plan (--dry-run), and repeat it with --yes if that is meant]")
	r.Yes = true
	apply("remove db to <nil> ")
	if shown, _ := f.Services.Show(t.Context(), "db"); shown.Resolver != nil {
		t.Errorf("%+v", shown.Resolver)
	}
}

// TestResolverConflict: rules that two operators write at once are shown as a
// conflict, and the same rules, applied again, end it.
func TestResolverConflict(t *testing.T) {
	f := newFixture(t)
	second := f.operator(t, "host2")
	rules := resolver.Rules{Service: "db", Failover: []identity.Name{"db2"}}
	elsewhere := ledger.New("mesh.test", f.records.View().Heads(ledger.KindRoot, "mesh.test")[0].Dot.Signer)
	elsewhere.Merge(f.records.View().Records())
	theirs, err := elsewhere.Sign(second, ledger.KindResolver, "db", rules, false)
	if err != nil {
		t.Fatal(err)
	}
	f.sign(t, f.Member.Operator.Key(), records.Change{Kind: ledger.KindResolver, Key: "db", Body: rules})
	f.records.Take([]ledger.Record{theirs})
	f.loop.Settle()
	shown, err := f.Services.Show(t.Context(), "db")
	if err != nil || !shown.Resolver.Conflict || fmt.Sprint(shown.Resolver.SignedBy) != "[host1 host2]" {
		t.Fatalf("%+v, %v", shown, err)
	}
	out, err := f.Intentions.Apply(t.Context(), api.ApplyRequest{Resolvers: []api.WantedRules{{Rules: rules}}})
	if err != nil || len(out.Resolvers) != 1 || !out.Resolvers[0].Conflict {
		t.Fatalf("%+v, %v", out, err)
	}
	if shown, _ := f.Services.Show(t.Context(), "db"); shown.Resolver.Conflict {
		t.Error("the conflict stays")
	}
}

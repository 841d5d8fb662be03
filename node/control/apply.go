// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/control/reach"
	"tacit/node/control/resolvers"
	"tacit/node/records"
	"tacit/policy"
	"tacit/policy/ledger"
)

// Apply makes the intentions and resolvers of files, all of them or none.
func (n intentions) Apply(ctx context.Context, r api.ApplyRequest) (*api.ApplyResult, error) {
	began, before := time.Now(), n.Loop.Policy()
	plan := n.plan(before, r)
	after := plan.table(before.Default())
	rules, unchanged := resolvers.Plan(n.Records.View(), r)
	out := &api.ApplyResult{Plan: plan.changes, Resolvers: rules, Unchanged: plan.unchanged + unchanged, LiveAffected: n.affected(after),
		Warnings: append(n.strangers(r), resolvers.Empty(n.Loop.Catalog(), r.Resolvers)...)}
	had := resolvers.Subsets(n.Records.View())
	if _, err := n.fits(resolvers.Entries(before, had), resolvers.Entries(after, resolvers.SubsetsAfter(had, rules)), false); err != nil {
		return nil, err
	}
	if r.DryRun {
		return out, nil
	}
	if err := n.needsOperator(ctx, "changing intentions"); err != nil {
		return nil, err
	}
	if err := cmp.Or(plan.needsYes(r.Yes, len(before.List())), n.pruned(r, rules)); err != nil {
		return nil, err
	}
	if all := append(plan.records(), resolvers.Records(rules)...); len(all) > 0 {
		if err := n.Records.SignAll(n.Member.Operator.Key(), all); err != nil {
			return nil, err
		}
		out.Applied = true
		n.Loop.Settle()
	}
	n.await(ctx, r.Live, reach.Patience{Began: began, Wait: r.Wait, Limit: r.Timeout}, &out.Reach)
	return out, nil
}

// applyPlan is what an apply would do.
type applyPlan struct {
	changes   []api.Planned
	unchanged int
	rules     []policy.Intention // in force afterwards
}

func (p *applyPlan) table(def policy.Action) *policy.Table { return policy.NewTable(def, p.rules) }

// plan compares what is wanted with what is in force.
func (n intentions) plan(before *policy.Table, r api.ApplyRequest) *applyPlan {
	p, old := &applyPlan{changes: []api.Planned{}}, map[string]api.Rule{}
	for _, i := range before.List() {
		old[i.Key()] = n.rule(i)
	}
	for _, w := range r.Intentions {
		i := intentionOf(w)
		p.rules = append(p.rules, i)
		p.want(i, w.From, old)
		delete(old, i.Key())
	}
	for _, i := range before.List() {
		rule, left := old[i.Key()]
		switch {
		case !left:
		case r.Prune:
			p.changes = append(p.changes, api.Planned{Operation: api.OperationRemove, Before: &rule})
		default:
			p.rules = append(p.rules, i)
		}
	}
	slices.SortFunc(p.changes, comparePlanned)
	return p
}

func intentionOf(w api.Wanted) policy.Intention {
	i := policy.Intention{Source: w.Source, Destination: w.Destination, Action: policy.Allow, Description: w.Description}
	if w.Action == api.ChangeDeny {
		i.Action = policy.Deny
	}
	return i
}

func (p *applyPlan) want(i policy.Intention, from string, old map[string]api.Rule) {
	rule := api.Rule{Source: i.Source, Destination: i.Destination, Action: i.Action, Precedence: i.Precedence(), Description: i.Description}
	was, known := old[i.Key()]
	switch {
	case !known:
		p.changes = append(p.changes, api.Planned{Operation: api.OperationAdd, After: &rule, From: from})
	case was != rule: // a conflict, too: signing again ends it
		p.changes = append(p.changes, api.Planned{Operation: api.OperationChange, Before: &was, After: &rule, From: from})
	default:
		p.unchanged++
	}
}

// comparePlanned puts removals last, and the rest in order of precedence.
func comparePlanned(a, b api.Planned) int {
	if removes := a.After == nil; removes != (b.After == nil) {
		if removes {
			return 1
		}
		return -1
	}
	x, y := cmp.Or(a.After, a.Before), cmp.Or(b.After, b.Before)
	return cmp.Or(cmp.Compare(y.Precedence, x.Precedence), compareNames(x.Source, y.Source), compareNames(x.Destination, y.Destination))
}

// needsYes refuses to delete more than a tenth of the intentions unasked.
func (p *applyPlan) needsYes(yes bool, all int) error {
	removed := 0
	for _, c := range p.changes {
		if c.Operation == api.OperationRemove {
			removed++
		}
	}
	return tooMany(yes, removed, all, "intentions")
}

// pruned refuses to delete more than a tenth of the resolvers unasked.
func (n intentions) pruned(r api.ApplyRequest, changes []api.PlannedRules) error {
	removed := 0
	for _, c := range changes {
		if c.Operation == api.OperationRemove {
			removed++
		}
	}
	return tooMany(r.Yes, removed, len(n.Records.View().Resolvers()), "resolvers")
}

func tooMany(yes bool, removed, all int, what string) error {
	if yes || removed*10 <= all {
		return nil
	}
	return api.Refused("look at the plan (--dry-run), and repeat it with --yes if that is meant", "--prune would delete %d of %d %s", removed, all, what)
}

func (p *applyPlan) records() []records.Change {
	out := make([]records.Change, len(p.changes))
	for k, c := range p.changes {
		rule := cmp.Or(c.After, c.Before)
		body := policy.Intention{Source: rule.Source, Destination: rule.Destination, Action: rule.Action, Description: rule.Description}
		out[k] = records.Change{Kind: ledger.KindIntention, Key: body.Key(), Body: body, Delete: c.After == nil}
	}
	return out
}

// shownNames is how many services a warning names.
const shownNames = 5

// strangers warns of services that have no instance, and are often misspelt.
func (n intentions) strangers(r api.ApplyRequest) []string {
	cat := n.Loop.Catalog()
	var named []identity.Name
	for _, w := range r.Intentions {
		named = append(named, w.Source, w.Destination)
	}
	for _, w := range r.Resolvers {
		named = append(append(named, w.Service), w.Failover...)
	}
	seen, missing := map[identity.Name]bool{policy.Any: true}, []string{}
	for _, name := range named {
		if !seen[name] && len(cat.Instances(name)) == 0 {
			missing = append(missing, string(name))
		}
		seen[name] = true
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	more := ""
	if n := len(missing) - shownNames; n > 0 {
		missing, more = missing[:shownNames], fmt.Sprintf(" and of %d more services", n)
	}
	return []string{"no instance of " + strings.Join(missing, ", ") + more + " is known yet"}
}

// intentionRoom is the kernel's map of intentions, as kernel.Room names it.
const intentionRoom = "intentions"

// fits refuses a change that would need more entries than this node's kernel
// has. Other nodes may have fewer; they aren't asked. A deny always comes into
// force, because the kernel removes an allow for it: it is only warned of.
func (n intentions) fits(before, after int, deny bool) (warnings []string, err error) {
	more := after - before
	if more <= 0 {
		return nil, nil
	}
	rooms, err := n.Enforcer.Room(nil)
	if err != nil {
		return nil, err
	}
	for _, r := range rooms {
		if r.What != intentionRoom || r.Used+uint64(more) <= r.Of {
			continue
		}
		if deny {
			return []string{fmt.Sprintf("%d of %d intentions are in use in this node's kernel: an allow gives way, and its connections are refused; raise --max-intentions", r.Used, r.Of)}, nil
		}
		return nil, api.Refused("run tacitd cleanup and start it with a larger --max-intentions, on every node, or delete some (tacit intention list)",
			"%d of %d intentions are in use in this node's kernel, and %d more don't fit: nothing was changed", r.Used, r.Of, more)
	}
	return nil, nil
}

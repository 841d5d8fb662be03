// SPDX-License-Identifier: Apache-2.0

// Package resolvers answers the CLI about the rules for services' connections: what
// files would change, what is in force, and what it leads to. It must not sign, store or
// bring anything in force.
package resolvers

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/catalog"
	"tacit/node/records"
	"tacit/policy"
	"tacit/policy/ledger"
	"tacit/policy/resolver"
)

// Plan compares the wanted rules with those in force.
func Plan(view *ledger.View, r api.ApplyRequest) (changes []api.PlannedRules, unchanged int) {
	old := map[identity.Name]resolver.Rules{}
	for _, rules := range view.Resolvers() {
		old[rules.Service] = rules
	}
	for _, w := range r.Resolvers {
		after := w.Rules
		p := api.PlannedRules{Operation: api.OperationAdd, Service: w.Service, After: &after, From: w.From}
		if before, known := old[w.Service]; known {
			p.Operation, p.Before, p.Conflict = api.OperationChange, &before, Contested(view, w.Service)
			if before.Equal(after) && !p.Conflict { // signing again ends a conflict
				unchanged++
				delete(old, w.Service)
				continue
			}
		}
		delete(old, w.Service)
		changes = append(changes, p)
	}
	if r.Prune {
		for _, before := range old {
			changes = append(changes, api.PlannedRules{Operation: api.OperationRemove, Service: before.Service, Before: &before})
		}
	}
	slices.SortFunc(changes, func(a, b api.PlannedRules) int { return cmp.Compare(a.Service, b.Service) })
	return changes, unchanged
}

// Contested reports whether several operators have signed a service's rules at once.
func Contested(view *ledger.View, service identity.Name) bool {
	return len(view.Heads(ledger.KindResolver, string(service))) > 1
}

// Records are what brings the changes about, once they are signed.
func Records(changes []api.PlannedRules) []records.Change {
	var out []records.Change
	for _, c := range changes {
		out = append(out, records.Change{Kind: ledger.KindResolver, Key: string(c.Service), Body: *cmp.Or(c.After, c.Before), Delete: c.After == nil})
	}
	return out
}

// Subsets is how many subsets each service has.
func Subsets(view *ledger.View) map[identity.Name]int {
	out := map[identity.Name]int{}
	for _, rules := range view.Resolvers() {
		out[rules.Service] = len(rules.Subsets)
	}
	return out
}

// SubsetsAfter are the counts after a change of rules.
func SubsetsAfter(counts map[identity.Name]int, changes []api.PlannedRules) map[identity.Name]int {
	out := maps.Clone(counts)
	for _, c := range changes {
		delete(out, c.Service)
		if c.After != nil {
			out[c.Service] = len(c.After.Subsets)
		}
	}
	return out
}

// Entries is how many entries of the kernel's map a policy needs: each rule has one
// more for every subset of its destination.
func Entries(t *policy.Table, subsets map[identity.Name]int) int {
	n := 0
	for _, i := range t.List() {
		n += 1 + subsets[i.Destination]
	}
	return n
}

// Empty warns of subsets without an instance, whose tag or meta is often misspelt.
func Empty(cat *catalog.Catalog, wanted []api.WantedRules) []string {
	var out []string
	for _, w := range wanted {
		instances := cat.Instances(w.Service)
		for _, name := range slices.Sorted(maps.Keys(w.Subsets)) {
			has := func(in catalog.Instance) bool { return w.Subsets[name].Has(in.Tags, in.Meta) }
			if len(instances) > 0 && !slices.ContainsFunc(instances, has) {
				out = append(out, fmt.Sprintf("no instance of %s is in the subset %s (%s) yet", w.Service, name, w.Subsets[name]))
			}
		}
	}
	return out
}

// Of is what operators have set for a service's connections, nil for nothing.
func Of(view *ledger.View, cat *catalog.Catalog, name identity.Name) *api.Resolver {
	rules, ok := cat.Rules(name)
	if !ok {
		return nil
	}
	out := &api.Resolver{Rules: rules, Conflict: Contested(view, name), SignedBy: signers(view, name), Sets: subsetsNow(cat, rules)}
	serving := slices.ContainsFunc(cat.Instances(name), cat.Serves)
	for _, port := range cat.Ports(name) {
		if standby := cat.Standby(name, port); !serving && out.Standby == "" && len(standby) > 0 {
			out.Standby = standby[0]
		}
	}
	return out
}

// signers are the nodes that hold the keys which have signed a service's rules.
func signers(view *ledger.View, service identity.Name) []identity.Name {
	holders := map[string]identity.Name{}
	for _, o := range view.Operators() {
		holders[string(o.Public)] = o.Node
	}
	var out []identity.Name
	for _, r := range view.Heads(ledger.KindResolver, string(service)) {
		out = append(out, holders[string(r.Signer)])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// subsetsNow counts the instances of each subset, and says what share of new
// connections it gets.
func subsetsNow(cat *catalog.Catalog, rules resolver.Rules) []api.Subset {
	var out []api.Subset
	total := 0
	for _, name := range slices.Sorted(maps.Keys(rules.Subsets)) {
		s := api.Subset{Name: name}
		for _, in := range cat.Instances(rules.Service) {
			if !rules.Subsets[name].Has(in.Tags, in.Meta) {
				continue
			}
			s.Instances++
			if in.Healthy {
				s.Healthy++
			}
		}
		if s.Healthy > 0 {
			s.Percent = rules.Split[name]
			total += rules.Split[name]
		}
		out = append(out, s)
	}
	for i := range out {
		out[i].Percent = (out[i].Percent*100 + total/2) / max(total, 1)
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
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
	"tacit/tproxy"
)

// intentions answers `tacit intention`.
type intentions struct{ *control }

// List lists the policy in order of precedence.
func (n intentions) List(context.Context) (*api.IntentionList, error) {
	t := n.Loop.Policy()
	out := &api.IntentionList{Default: t.Default(), Rules: []api.Rule{}}
	for _, i := range t.List() {
		out.Rules = append(out.Rules, n.rule(i))
	}
	return out, nil
}

// Check is the verdict alone.
func (n intentions) Check(_ context.Context, src, dst api.Name) (*api.Verdict, error) {
	v := n.verdict(n.Loop.Policy().Decide(src, dst))
	return &v, nil
}

// Explain is everything that bears on a pair.
func (n intentions) Explain(_ context.Context, src, dst api.Name) (*api.Explanation, error) {
	t := n.Loop.Policy()
	d := t.Decide(src, dst)
	out := &api.Explanation{Source: src, Destination: dst, Verdict: n.verdict(d), Why: strings.TrimSpace(why(t, d, src, dst) + " " + n.leaves(dst)),
		Default: t.Default(), Digest: n.Loop.Digest(), Nodes: n.nodePolicies(n.Loop.Digest())}
	for i, rule := range t.Explain(src, dst) {
		r := n.rule(rule)
		r.By, r.Since, _ = n.Journal.Author(ledger.KindIntention, intentionKey(rule.Source, rule.Destination))
		if i == 0 {
			out.Winner = &r
		} else {
			out.Losers = append(out.Losers, r)
		}
	}
	for _, f := range n.Proxy.Flows() {
		if f.Source == src && (f.Destination == dst || f.For == dst) {
			out.Live = append(out.Live, liveFlow(f))
		}
	}
	out.Unknown = n.unknown(src, dst)
	return out, nil
}

// why says which rule decides a pair.
func why(t *policy.Table, d policy.Decision, src, dst identity.Name) string {
	matching := t.Explain(src, dst)
	if d.Rule == nil && src.IsIngress() {
		return "No intention that names the ingress matches, so it is denied: * and the default let none in."
	}
	if d.Rule == nil {
		return fmt.Sprintf("No intention matches, so the default decides: %s.", t.Default())
	}
	out := fmt.Sprintf("The intention %s %s -> %s decides: it names %s.", d.Rule.Action, d.Rule.Source, d.Rule.Destination, named(*d.Rule))
	if more := len(matching) - 1; more == 1 {
		out += " One less specific intention matches too, and loses."
	} else if more > 1 {
		out += fmt.Sprintf(" %d less specific intentions match too, and lose.", more)
	}
	return out
}

// named is what of a pair an intention names.
func named(i policy.Intention) string {
	switch {
	case i.Source == policy.Any && i.Destination == policy.Any:
		return "neither service"
	case i.Source == policy.Any:
		return "the destination"
	case i.Destination == policy.Any:
		return "only the source"
	}
	return "both services"
}

func liveFlow(f tproxy.Flow) api.Flow {
	return api.Flow{Source: f.Source, Destination: f.Destination, For: f.For, Node: f.Node, Direction: f.Direction,
		Client: f.Client, Port: f.Port, Start: f.Start, Sent: f.Sent, Received: f.Received}
}

// nodePolicies says on which nodes the policy with a digest is in force.
func (n intentions) nodePolicies(want string) []api.NodePolicy {
	digests := n.digests()
	var out []api.NodePolicy
	for _, m := range n.members(func(_ bool, node identity.Name) bool { return inForce(digests[node], want) }) {
		out = append(out, api.NodePolicy{Name: m.Name, Digest: digests[m.Name], Alive: m.Alive, Since: m.Since, InForce: m.Done})
	}
	slices.SortFunc(out, func(a, c api.NodePolicy) int { return compareNames(a.Name, c.Name) })
	return out
}

// Change signs a change where this node may, and waits for it.
func (n intentions) Change(ctx context.Context, r api.IntentionChange) (*api.ChangeResult, error) {
	began := time.Now()
	before := n.Loop.Policy()
	after, err := changed(before, r)
	if err != nil {
		return nil, err
	}
	out := &api.ChangeResult{Before: n.verdict(decide(before, r)), After: n.verdict(decide(after, r)), LiveAffected: n.affected(after)}
	for _, name := range n.unknown(r.Source, r.Destination) {
		out.Warnings = append(out.Warnings, "no instance of "+string(name)+" is known yet")
	}
	subsets := resolvers.Subsets(n.Records.View())
	warning, err := n.fits(resolvers.Entries(before, subsets), resolvers.Entries(after, subsets), r.Action == api.ChangeDeny)
	if err != nil {
		return nil, err
	}
	out.Warnings = append(out.Warnings, warning...)
	if r.DryRun {
		return out, nil
	}
	if err := n.needsOperator(ctx, "changing an intention"); err != nil {
		return nil, err
	}
	news := before.Digest() != after.Digest()
	if news || r.Action != api.ChangeDelete {
		if err := n.sign(r); err != nil {
			return nil, err
		}
		out.Applied = news
		n.Loop.Settle()
	}
	n.await(ctx, r.Live, reach.Patience{Began: began, Wait: r.Wait, Limit: r.Timeout}, &out.Reach)
	return out, nil
}

// decide is the verdict on the pair of r. For "*" it is that on a service that
// no rule names: one whose name isn't a DNS label.
func decide(t *policy.Table, r api.IntentionChange) policy.Decision {
	src, dst := r.Source, r.Destination
	if src == policy.Any {
		src = "any/source"
	}
	if dst == policy.Any {
		dst = "any/destination"
	}
	return t.Decide(src, dst)
}

// changed is the policy as it would be after r.
func changed(t *policy.Table, r api.IntentionChange) (*policy.Table, error) {
	list := t.List()
	rules := slices.DeleteFunc(slices.Clone(list), func(i policy.Intention) bool {
		return i.Source == r.Source && i.Destination == r.Destination
	})
	switch r.Action {
	case api.ChangeAllow:
		rules = append(rules, policy.Intention{Source: r.Source, Destination: r.Destination, Action: policy.Allow, Description: r.Description})
	case api.ChangeDeny:
		rules = append(rules, policy.Intention{Source: r.Source, Destination: r.Destination, Action: policy.Deny, Description: r.Description})
	case api.ChangeDelete:
		if len(rules) == len(list) {
			return nil, api.Refused("tacit intention list shows those there are", "there is no intention %s -> %s", r.Source, r.Destination)
		}
	}
	return policy.NewTable(t.Default(), rules), nil
}

func (n intentions) sign(r api.IntentionChange) error {
	action := policy.Allow
	if r.Action == api.ChangeDeny {
		action = policy.Deny
	}
	body := policy.Intention{Source: r.Source, Destination: r.Destination, Action: action, Description: r.Description}
	return n.Records.Sign(n.Member.Operator.Key(), records.Change{Kind: ledger.KindIntention,
		Key: intentionKey(r.Source, r.Destination), Body: body, Delete: r.Action == api.ChangeDelete})
}

// affected counts the live connections of this node that a policy would cut.
func (n intentions) affected(after *policy.Table) int {
	count := 0
	for _, f := range n.Proxy.Flows() {
		if !after.Decide(f.Source, f.Destination).Allowed || f.For != "" && !after.Decide(f.Source, f.For).Allowed {
			count++
		}
	}
	return count
}

// unknown are those of the two that have no instance, and are often misspelt.
func (n intentions) unknown(src, dst identity.Name) []identity.Name {
	return slices.DeleteFunc(slices.Compact([]identity.Name{src, dst}), func(name identity.Name) bool {
		return name == policy.Any || len(n.Loop.Catalog().Instances(name)) > 0
	})
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"tacit/identity"
	"tacit/node/api"
	"tacit/policy"
	"tacit/policy/ledger"
	"tacit/tproxy"
)

const kindIntention = ledger.KindIntention

// Intentions lists the policy in order of precedence.
func (b backend) Intentions(context.Context) (*api.IntentionList, error) {
	t := b.n.table.Load()
	out := &api.IntentionList{Default: t.Default(), Rules: []api.Rule{}}
	for _, i := range t.List() {
		out.Rules = append(out.Rules, b.rule(i))
	}
	return out, nil
}

// CheckIntention is the verdict alone.
func (b backend) CheckIntention(_ context.Context, src, dst api.Name) (*api.Verdict, error) {
	v := b.verdict(b.n.table.Load().Decide(src, dst))
	return &v, nil
}

// ExplainIntention is everything that bears on a pair.
func (b backend) ExplainIntention(_ context.Context, src, dst api.Name) (*api.Explanation, error) {
	t := b.n.table.Load()
	d := t.Decide(src, dst)
	out := &api.Explanation{Source: src, Destination: dst, Verdict: b.verdict(d), Why: d.Reason.Explain(),
		Default: t.Default(), Digest: t.Digest(), Nodes: b.inForce()}
	for i, rule := range t.Explain(src, dst) {
		r := b.rule(rule)
		if i == 0 {
			out.Winner = &r
		} else {
			out.Losers = append(out.Losers, r)
		}
	}
	for _, f := range b.n.proxy.Flows() {
		if f.Source == src && f.Destination == dst {
			out.Live = append(out.Live, flow(f))
		}
	}
	for _, name := range []identity.Name{src, dst} {
		if len(b.n.catalog.Load().Instances(name)) == 0 {
			out.Unknown = append(out.Unknown, name)
		}
	}
	return out, nil
}

func flow(f tproxy.Flow) api.Flow {
	return api.Flow{Source: f.Source, Destination: f.Destination, Node: f.Node, Direction: f.Direction,
		Client: f.Client, Port: f.Port, Start: f.Start, Sent: f.Sent, Received: f.Received}
}

// liveness is who answers, and what policy each says it has in force.
func (b backend) liveness() (alive map[identity.Name]bool, digests map[identity.Name]string) {
	alive, digests = map[identity.Name]bool{}, map[identity.Name]string{}
	for _, m := range b.n.pool.Members() {
		var r revision
		if json.Unmarshal(m.Meta, &r) == nil {
			digests[m.Name] = b.n.heard.newer(m.Name, r).Digest
		}
		alive[m.Name] = m.Alive
	}
	digests[b.n.cfg.name] = b.n.digest()
	return alive, digests
}

func (b backend) inForce() []api.NodePolicy {
	alive, digests := b.liveness()
	want := b.n.table.Load().Digest()
	var out []api.NodePolicy
	for _, m := range b.n.member.ledger.Members() {
		out = append(out, api.NodePolicy{Name: m.Node, Digest: digests[m.Node], Alive: alive[m.Node],
			InForce: digests[m.Node] == want})
	}
	slices.SortFunc(out, func(a, c api.NodePolicy) int { return compareNames(a.Name, c.Name) })
	return out
}

// ChangeIntention signs a change where this node may, and waits for it.
func (b backend) ChangeIntention(ctx context.Context, r api.IntentionChange) (*api.ChangeResult, error) {
	began := time.Now()
	before := b.n.table.Load()
	after, err := changed(before, r)
	if err != nil {
		return nil, err
	}
	out := &api.ChangeResult{Before: b.verdict(before.Decide(r.Source, r.Destination)),
		After: b.verdict(after.Decide(r.Source, r.Destination)), LiveAffected: b.affected(after)}
	out.Warnings = b.unknownNames(r)
	if r.DryRun {
		return out, nil
	}
	if b.n.member.operator == nil {
		return nil, b.notOperator("changing an intention")
	}
	if before.Digest() != after.Digest() || r.Action != api.ChangeDelete {
		if err := b.signIntention(r); err != nil {
			return nil, err
		}
		out.Applied = before.Digest() != after.Digest()
		b.n.reconcile()
	}
	b.await(ctx, r, out, began)
	return out, nil
}

// changed is the policy as it would be.
func changed(t *policy.Table, r api.IntentionChange) (*policy.Table, error) {
	rules := slices.DeleteFunc(t.List(), func(i policy.Intention) bool {
		return i.Source == r.Source && i.Destination == r.Destination
	})
	if len(rules) == len(t.List()) && r.Action == api.ChangeDelete {
		return nil, api.Refused("tacit intention list shows those there are", "there is no intention %s -> %s", r.Source, r.Destination)
	}
	switch r.Action {
	case api.ChangeAllow:
		rules = append(rules, policy.Intention{Source: r.Source, Destination: r.Destination, Action: policy.Allow, Description: r.Description})
	case api.ChangeDeny:
		rules = append(rules, policy.Intention{Source: r.Source, Destination: r.Destination, Action: policy.Deny, Description: r.Description})
	}
	return policy.NewTable(t.Default(), rules), nil
}

func (b backend) signIntention(r api.IntentionChange) error {
	action := policy.Allow
	if r.Action == api.ChangeDeny {
		action = policy.Deny
	}
	body := policy.Intention{Source: r.Source, Destination: r.Destination, Action: action, Description: r.Description}
	return b.n.sign(b.n.member.operator, kindIntention, string(r.Source)+">"+string(r.Destination), body, r.Action == api.ChangeDelete)
}

// affected counts the live connections of this node that the new policy cuts.
func (b backend) affected(after *policy.Table) int {
	count := 0
	for _, f := range b.n.proxy.Flows() {
		if !after.Decide(f.Source, f.Destination).Allowed {
			count++
		}
	}
	return count
}

// unknownNames warns of names without an instance: often a slip of the pen.
func (b backend) unknownNames(r api.IntentionChange) []string {
	var out []string
	for _, name := range []identity.Name{r.Source, r.Destination} {
		if name != policy.Any && len(b.n.catalog.Load().Instances(name)) == 0 {
			out = append(out, "no instance of "+string(name)+" is known yet")
		}
	}
	return out
}

// await fills in where the change is in force; with Wait, until it is so on
// every live node or the time is up.
func (b backend) await(ctx context.Context, r api.IntentionChange, out *api.ChangeResult, began time.Time) {
	limit := r.Timeout
	if limit == 0 {
		limit = api.DefaultWait
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		out.InForce, out.Nodes, out.Waiting = 0, 0, nil
		for _, p := range b.inForce() {
			if !p.Alive {
				continue
			}
			out.Nodes++
			if p.InForce {
				out.InForce++
			} else {
				out.Waiting = append(out.Waiting, string(p.Name))
			}
		}
		out.Elapsed = time.Since(began)
		if !r.Wait || len(out.Waiting) == 0 || out.Elapsed > limit {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func compareNames(a, b identity.Name) int { return strings.Compare(string(a), string(b)) }

// SPDX-License-Identifier: Apache-2.0

// Package control answers the CLI: one file per noun. It must hold no state
// and nothing that the daemon would need without a CLI.
package control

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/config"
	"tacit/node/membership"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/ledger"
)

// Config is what the answers are made from.
type Config struct {
	Settings     *config.Settled
	Member       *membership.Member
	Tree         workload.Tree
	Started      time.Time
	Records      Records
	Signer       Signer
	Tokens       Tokens
	Certificates Certificates
	Inventory    Inventory
	Checks       Checks
	Loop         Loop
	Datapath     Datapath
	Enforcer     Enforcer
	SelfProbe    SelfProbe
	Proxy        Proxy
	Names        Names
	Deadline     Deadline
	Board        Board
	Journal      Journal
	Alive        func() map[identity.Name]bool // which members answer
}

// New returns the daemon's side of every command.
func New(c Config) api.Backend {
	k := &control{c}
	return api.Backend{Host: host{k}, Nodes: nodes{k}, Services: services{k}, Intentions: intentions{k}}
}

// control is what the nouns share.
type control struct{ Config }

// operators names the nodes that hold an operator key, sorted.
func (k *control) operators() []string {
	var out []string
	for _, o := range k.Records.View().Operators() {
		out = append(out, string(o.Node))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// needsOperator refuses what only a node with an operator key may do, and only once it
// has heard from a member.
func (k *control) needsOperator(ctx context.Context, what string) error {
	if k.Member.Operator.Key() != nil {
		if err := k.Records.Await(ctx); err != nil {
			return api.Refused("tacit nodes shows which nodes answer", "%s", err)
		}
		return nil
	}
	return &api.Error{Code: api.CodeRefused, Nodes: k.operators(),
		Message: fmt.Sprintf("%s needs an operator key, and this node (%s) holds none", what, k.Settings.Name),
		Hint:    "run the same command on a node that does"}
}

// digests is which policy each member has signed that it has in force; this node's is
// known.
func (k *control) digests() map[identity.Name]string {
	out := map[identity.Name]string{}
	for node, rev := range k.Records.Revisions() {
		out[node] = rev.Digest
	}
	out[k.Settings.Name] = k.Loop.InForce()
	return out
}

// virtual returns a service's virtual addresses.
func (k *control) virtual(name identity.Name) (v4, v6 netip.Addr) { return k.Names.Virtual(name) }

// rule is an intention as the CLI shows it.
func (k *control) rule(i policy.Intention) api.Rule {
	heads := k.Records.View().Heads(ledger.KindIntention, intentionKey(i.Source, i.Destination))
	return api.Rule{Source: i.Source, Destination: i.Destination, Action: i.Action,
		Precedence: i.Precedence(), Description: i.Description, Conflict: len(heads) > 1}
}

func (k *control) verdict(d policy.Decision) api.Verdict {
	v := api.Verdict{Allowed: d.Allowed, Reason: d.Reason}
	if d.Rule != nil {
		r := k.rule(*d.Rule)
		v.Rule = &r
	}
	return v
}

func intentionKey(source, destination identity.Name) string {
	return string(source) + ">" + string(destination)
}

func compareNames(a, b identity.Name) int { return strings.Compare(string(a), string(b)) }

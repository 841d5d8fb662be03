// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"slices"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/control/keys"
	"tacit/node/membership"
	"tacit/policy/ledger"
)

// nodes answers `tacit nodes`, `tacit node`, but for revoke, and `tacit token`.
type nodes struct{ *control }

// List lists the members.
func (n nodes) List(context.Context) ([]api.Node, error) {
	alive, digests := n.Alive(), n.digests()
	var out []api.Node
	for _, m := range n.Records.View().Members() {
		out = append(out, n.node(m.Node, alive[m.Node], digests[m.Node]))
	}
	slices.SortFunc(out, func(a, c api.Node) int { return compareNames(a.Name, c.Name) })
	return out, nil
}

// Show shows one member.
func (n nodes) Show(_ context.Context, name api.Name) (*api.Node, error) {
	if _, ok := n.Records.View().Member(name); !ok {
		return nil, noNode(name, "tacit nodes lists the members")
	}
	out := n.node(name, n.Alive()[name], n.digests()[name])
	return &out, nil
}

func noNode(name identity.Name, hint string) error {
	return api.Failed(hint, "no node is called %s", name)
}

func (n nodes) node(name identity.Name, alive bool, digest string) api.Node {
	v := n.Records.View()
	host, _ := v.Node(name)
	return api.Node{
		Name: name, ID: identity.NodeID(n.Member.Bundle.TrustDomain(), name).String(),
		Address: host.Address, Version: host.Version, Alive: alive, Local: name == n.Settings.Name,
		Authority: slices.Contains(v.Authorities(), name), Operator: slices.Contains(n.operators(), string(name)),
		Keys: keys.Of(v, name), Grants: v.Grants(name), Outside: vouched(v, name), PolicyDigest: digest,
	}
}

// change signs what isn't so already.
func (n nodes) change(r api.GrantRequest, service identity.Name) error {
	v := n.Records.View()
	granted, before := v.Granted(r.Node, service), v.Vouched(r.Node, service)
	after, withdraw := slices.Compact(slices.Sorted(slices.Values(slices.Concat(r.Outside, before)))), r.Withdraw
	if withdraw && len(r.Outside) > 0 { // the service stays granted
		after, withdraw = slices.DeleteFunc(slices.Clone(before), func(s string) bool { return slices.Contains(r.Outside, s) }), false
	}
	if r.Withdraw && !granted || !withdraw && granted && len(after) == len(before) {
		return nil
	}
	return n.Signer.Grant(r.Node, service, withdraw, after...)
}

// vouched are the real names and addresses in a node's grants.
func vouched(v *ledger.View, node identity.Name) map[identity.Name][]string {
	out := map[identity.Name][]string{}
	for _, service := range v.Grants(node) {
		if list := v.Vouched(node, service); len(list) > 0 {
			out[service] = list
		}
	}
	return out
}

// CreateToken makes a join token that carries the grants it promises.
func (n nodes) CreateToken(ctx context.Context, r api.TokenRequest) (*api.Token, error) {
	if err := n.needsOperator(ctx, "making a token"); err != nil {
		return nil, err
	}
	if _, up := n.Records.View().Node(r.Node); up { // a member that was never up may have lost the answer, and try again
		return nil, api.Refused("tacit nodes lists the members; revoke that one first if it is gone for good",
			"the name %s is taken by a member", r.Node)
	}
	text, expires, err := n.Tokens.NewToken(membership.TokenRequest{Node: r.Node, Services: r.Services, TTL: r.TTL})
	if err != nil {
		return nil, err
	}
	return &api.Token{Token: text, Node: r.Node, Services: r.Services, Expires: expires}, nil
}

// Grant grants or withdraws services.
func (n nodes) Grant(ctx context.Context, r api.GrantRequest) (*api.NodeResult, error) {
	if err := n.needsOperator(ctx, "granting"); err != nil {
		return nil, err
	}
	v := n.Records.View()
	if _, ok := v.Member(r.Node); !ok {
		return nil, noNode(r.Node, "tacit nodes lists the members; a new node's grants go into its token")
	}
	for _, service := range r.Services {
		if err := n.change(r, service); err != nil {
			return nil, err
		}
	}
	n.Loop.Settle()
	out, err := n.Show(ctx, r.Node)
	if err != nil {
		return nil, err
	}
	return &api.NodeResult{Node: *out}, nil
}

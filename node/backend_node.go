// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"net"
	"slices"
	"strconv"
	"time"

	"tacit/identity"
	"tacit/node/api"
	"tacit/policy/ledger"
)

const defaultTokenTTL = 15 * time.Minute

// CreateToken makes a join token that carries the grants it promises.
func (b backend) CreateToken(_ context.Context, r api.TokenRequest) (*api.Token, error) {
	m := b.n.member
	if m.operator == nil {
		return nil, b.notOperator("making a token")
	}
	if _, up := m.ledger.Node(r.Node); up { // admitted and never up: its answer was lost, and it may try again
		return nil, api.Refused("tacit nodes lists the members; revoke that one first if it is gone for good",
			"the name %s is taken by a member", r.Node)
	}
	authority, addr, err := b.anyAuthority()
	if err != nil {
		return nil, err
	}
	if r.TTL == 0 {
		r.TTL = defaultTokenTTL
	}
	t := identity.Token{Node: r.Node, TrustDomain: m.bundle.TrustDomain(), Authority: authority, Addresses: []string{addr},
		Root: m.bundle.Fingerprint(), Expires: time.Now().Add(r.TTL).UTC()}
	if t.Grants, err = b.preparedGrants(r); err != nil {
		return nil, err
	}
	text, err := identity.NewToken(t, m.operator)
	if err != nil {
		return nil, err
	}
	return &api.Token{Token: text, Node: r.Node, Services: r.Services, Expires: t.Expires}, nil
}

// preparedGrants signs grants that come into force when the token is redeemed.
func (b backend) preparedGrants(r api.TokenRequest) ([]json.RawMessage, error) {
	b.n.signing.Lock()
	defer b.n.signing.Unlock()
	var out []json.RawMessage
	for _, service := range r.Services {
		body := ledger.GrantBody{Node: r.Node, Service: service}
		rec, err := b.n.member.ledger.Prepare(b.n.member.operator, ledger.KindGrant, string(r.Node)+"/"+string(service), body)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(rec)
		if err != nil {
			return nil, err
		}
		out = append(out, text)
		if err := b.n.store.Set(setReserved, binary.BigEndian.AppendUint64(nil, rec.Dot.Seq)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// anyAuthority prefers this node.
func (b backend) anyAuthority() (identity.Name, string, error) {
	names := b.n.member.ledger.Authorities()
	if b.n.member.authority != nil {
		names = []identity.Name{b.n.cfg.name}
	}
	for _, name := range names {
		if host, ok := b.n.member.ledger.Node(name); ok {
			return name, net.JoinHostPort(host.Address, strconv.Itoa(int(host.LanePort))), nil
		}
	}
	return "", "", api.Failed("", "no authority's address is known")
}

// GrantNode grants or withdraws services.
func (b backend) GrantNode(_ context.Context, r api.GrantRequest) (*api.NodeResult, error) {
	if b.n.member.operator == nil {
		return nil, b.notOperator("granting")
	}
	if _, ok := b.n.member.ledger.Member(r.Node); !ok {
		return nil, api.Failed("tacit nodes lists the members; a new node's grants go into its token", "no node is called %s", r.Node)
	}
	for _, service := range r.Services {
		if b.n.member.ledger.Granted(r.Node, service) != r.Withdraw {
			continue
		}
		if err := b.n.signGrant(r.Node, service, r.Withdraw); err != nil {
			return nil, err
		}
	}
	b.n.reconcile()
	out, err := b.Node(context.Background(), r.Node)
	if err != nil {
		return nil, err
	}
	return &api.NodeResult{Node: *out}, nil
}

// RevokeNode ends a membership: records, lanes and certificates of that key are refused.
func (b backend) RevokeNode(_ context.Context, r api.RevokeRequest) (*api.NodeResult, error) {
	if b.n.member.operator == nil {
		return nil, b.notOperator("revoking a node")
	}
	if r.Node == b.n.cfg.name {
		return nil, api.Refused("revoke it from another operator's node", "%s can't revoke itself", r.Node)
	}
	m, ok := b.n.member.ledger.Member(r.Node)
	if !ok {
		return nil, api.Failed("tacit nodes lists the members", "no node is called %s", r.Node)
	}
	key, err := identity.KeyIDOf(m.Public)
	if err != nil {
		return nil, err
	}
	before := b.node(r.Node, false, "")
	body := ledger.RevocationBody{Public: key, Node: r.Node, Reason: r.Reason}
	if err := b.n.sign(b.n.member.operator, ledger.KindRevocation, key.String(), body, false); err != nil {
		return nil, err
	}
	b.n.proxy.CloseLanes(r.Node)
	b.n.reconcile()
	before.Revoked = true
	notes := []string{}
	if slices.Contains(b.operators(), string(r.Node)) {
		notes = append(notes, "its operator key is another key and stays valid")
	}
	return &api.NodeResult{Node: before, Notes: notes}, nil
}

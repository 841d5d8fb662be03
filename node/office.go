// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
	"tacit/policy/ledger"
)

// office is the authority's desk: it redeems tokens and issues certificates.
type office struct{ n *Node }

var errNoAuthority = errors.New("this node is no authority; ask the one that the token names")

// Admit redeems a token: checked in full before it is spent, spent on disk
// before anything is issued, so that of many joins with one token one gets in.
func (o office) Admit(_ context.Context, ask enrol.Ask) (*enrol.Admission, error) {
	n := o.n
	if n.member.authority == nil {
		return nil, errNoAuthority
	}
	token, err := identity.ParseToken(ask.Token)
	if err != nil {
		return nil, err
	}
	n.admitting.Lock() // two tokens for one name: the second must see the first's member
	defer n.admitting.Unlock()
	spki, err := o.checkAdmission(token, ask.CSR)
	if err != nil {
		return nil, err
	}
	grants, err := parseGrants(token.Grants)
	if err != nil {
		return nil, err
	}
	first, err := n.store.Spend(token.ID, time.Now())
	if err != nil {
		return nil, fmt.Errorf("the token can't be marked as used: %w", err)
	}
	if !first {
		return nil, usedToken(token)
	}
	return o.admit(token, spki, ask.CSR, grants)
}

func usedToken(t *identity.Token) error {
	return fmt.Errorf("the token has been used; make a new one: tacit token create --node %s", t.Node)
}

func (o office) checkAdmission(t *identity.Token, csr []byte) ([]byte, error) {
	m := o.n.member
	if t.Root != m.bundle.Fingerprint() || t.Authority != o.n.cfg.name {
		return nil, errors.New("the token is for another mesh or another authority")
	}
	if err := t.Verify(t.Node, m.ledger.IsOperator, time.Now()); err != nil {
		return nil, err
	}
	if used, err := o.n.store.Spent(t.ID); err != nil || used {
		return nil, errors.Join(err, usedToken(t))
	}
	key, spki, err := identity.CSRKeyID(csr)
	if err != nil {
		return nil, err
	}
	if m.ledger.Revoked(key) {
		return nil, errors.New("the node's key has been revoked; remove its node.key and make a new token")
	}
	if old, taken := m.ledger.Member(t.Node); taken && !bytes.Equal(old.Public, spki) {
		return nil, fmt.Errorf("the name %s is taken by another node; choose another name or revoke that one: tacit node revoke %s", t.Node, t.Node)
	}
	return spki, nil
}

func (o office) admit(t *identity.Token, spki, csr []byte, grants []ledger.Record) (*enrol.Admission, error) {
	n, m := o.n, o.n.member
	chain, err := m.authority.IssueNode(csr, t.Node)
	if err != nil {
		return nil, err
	}
	if _, taken := m.ledger.Member(t.Node); !taken {
		body := ledger.MemberBody{Node: t.Node, Public: spki}
		if err := n.sign(m.authority.Key(), ledger.KindMember, string(t.Node), body, false); err != nil {
			return nil, err
		}
	}
	if err := n.take(grants); err != nil {
		return nil, err
	}
	n.log.Info("node admitted", "node", t.Node, "token", t.ID[:min(8, len(t.ID))])
	return &enrol.Admission{
		Chain: identity.EncodeChain(chain), Root: m.bundle.Roots()[0].Raw,
		Records: m.ledger.Records(), GossipKey: m.gossipKey,
	}, nil
}

// parseGrants reads the operator-signed grants that the token carries.
func parseGrants(raw []json.RawMessage) ([]ledger.Record, error) {
	recs := make([]ledger.Record, 0, len(raw))
	for _, text := range raw {
		var r ledger.Record
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("the token's grants: %w", err)
		}
		if r.Kind != ledger.KindGrant {
			return nil, fmt.Errorf("the token carries a %s record; only grants may travel in tokens", r.Kind)
		}
		recs = append(recs, r)
	}
	return recs, nil
}

// Issue signs a certificate for a member's own name or for a service granted to it.
func (o office) Issue(_ context.Context, node identity.Name, spki []byte, r enrol.Renewal) (*enrol.Issued, error) {
	m := o.n.member
	if m.authority == nil {
		return nil, errNoAuthority
	}
	who, ok := m.ledger.Member(node)
	if !ok || !bytes.Equal(who.Public, spki) {
		return nil, fmt.Errorf("node %s is no member with this key; it must join again", node)
	}
	key, _, err := identity.CSRKeyID(r.CSR)
	if err != nil {
		return nil, err
	}
	if m.ledger.Revoked(key) {
		return nil, errors.New("the key has been revoked")
	}
	return o.issue(node, who, r)
}

func (o office) issue(node identity.Name, who ledger.MemberBody, r enrol.Renewal) (*enrol.Issued, error) {
	m := o.n.member
	if r.Service == "" {
		if _, spki, err := identity.CSRKeyID(r.CSR); err != nil || !bytes.Equal(spki, who.Public) {
			return nil, errors.New("a node's certificate is renewed for its own long-term key only")
		}
		chain, err := m.authority.IssueNode(r.CSR, node)
		return issued(chain, err)
	}
	if !m.ledger.Granted(node, r.Service) {
		return nil, fmt.Errorf("service %s is not granted to node %s; on a node with an operator key: tacit node grant %s --service %s", r.Service, node, node, r.Service)
	}
	chain, err := m.authority.IssueService(r.CSR, r.Service)
	return issued(chain, err)
}

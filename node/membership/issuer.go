// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
	"tacit/node/records"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// Records are the signed state that an issuer adds to: a *records.Records.
type Records interface {
	Sign(key *identity.Key, c records.Change) error
	Take(recs []ledger.Record)
	View() *ledger.View
	// Await waits, for a few seconds after the start, until authorities may sign.
	Await(ctx context.Context) error
}

// SpentTokens remembers over restarts which tokens were redeemed.
type SpentTokens interface {
	// Spend marks a token as used; first is false where it was already.
	Spend(token string, now time.Time) (first bool, err error)
	Spent(token string) (bool, error)
}

// IssuerConfig is what an issuer works with.
type IssuerConfig struct {
	Member  *Member
	Self    identity.Name
	Records Records
	Tokens  SpentTokens
	Log     *slog.Logger
}

// Issuer redeems tokens and issues certificates where this node is an
// authority, and refuses everything where it is none. Its errors reach the
// asking node. It is safe for concurrent use.
type Issuer struct {
	conf      IssuerConfig
	admitting sync.Mutex // one token is redeemed at a time: of two for one name, the second must see the first's member
}

// NewIssuer returns the issuer of a node, authority or not.
func NewIssuer(conf IssuerConfig) *Issuer { return &Issuer{conf: conf} }

var errNoAuthority = errors.New("this node is not an authority; ask the one that the token names")

// Issues says whether this node is an authority whose key isn't revoked.
func (i *Issuer) Issues() bool {
	a := i.conf.Member.Authority
	return a != nil && i.conf.Records.View().IsAuthority(a.Key().ID())
}

// Admit redeems a token. The token is checked in full before it is spent, and
// spent on disk before anything is issued, so that only one join gets in by it.
func (i *Issuer) Admit(ctx context.Context, ask enrol.Ask) (*enrol.Admission, error) {
	if !i.Issues() {
		return nil, errNoAuthority
	}
	if err := i.conf.Records.Await(ctx); err != nil {
		return nil, err
	}
	token, err := identity.ParseToken(ask.Token)
	if err != nil {
		return nil, err
	}
	i.admitting.Lock()
	defer i.admitting.Unlock()
	spki, err := i.checkAdmission(token, ask.CSR)
	if err != nil {
		return nil, err
	}
	grants, err := parseGrants(token.Grants)
	if err != nil {
		return nil, err
	}
	if err := i.spend(token); err != nil {
		return nil, err
	}
	return i.admit(token, spki, ask.CSR, grants)
}

// checkAdmission returns the public key of the CSR.
func (i *Issuer) checkAdmission(t *identity.Token, csr []byte) ([]byte, error) {
	view := i.conf.Records.View()
	if t.Root != i.conf.Member.Bundle.Fingerprint() || t.Authority != i.conf.Self {
		return nil, errors.New("the token is for another mesh or another authority")
	}
	if err := t.Verify(t.Node, view.IsOperator, time.Now()); err != nil {
		return nil, err
	}
	if used, err := i.conf.Tokens.Spent(t.ID); err != nil || used {
		return nil, errors.Join(err, usedToken(t))
	}
	key, spki, err := identity.CSRKeyID(csr)
	if err != nil {
		return nil, err
	}
	if view.Revoked(key) {
		return nil, errors.New("the node's key has been revoked; remove its node.key and make a new token")
	}
	if old, taken := view.Member(t.Node); taken && !bytes.Equal(old.Public, spki) {
		return nil, fmt.Errorf("the name %s is taken by another node; choose another name or revoke that one: tacit node revoke %s", t.Node, t.Node)
	}
	return spki, nil
}

func usedToken(t *identity.Token) error {
	return fmt.Errorf("the token has been used; make a new one: tacit token create --node %s", t.Node)
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

func (i *Issuer) spend(t *identity.Token) error {
	first, err := i.conf.Tokens.Spend(t.ID, time.Now())
	if err != nil {
		return fmt.Errorf("the token can't be marked as used: %w", err)
	}
	if !first {
		return usedToken(t)
	}
	return nil
}

func (i *Issuer) admit(t *identity.Token, spki, csr []byte, grants []ledger.Record) (*enrol.Admission, error) {
	m, recs := i.conf.Member, i.conf.Records
	chain, err := m.Authority.IssueNode(csr, t.Node)
	if err != nil {
		return nil, err
	}
	if _, taken := recs.View().Member(t.Node); !taken {
		c := records.Change{Kind: ledger.KindMember, Key: string(t.Node), Body: statement.Member{Node: t.Node, Public: spki}}
		if err := recs.Sign(m.Authority.Key(), c); err != nil {
			return nil, err
		}
	}
	recs.Take(grants)
	i.conf.Log.Info("node admitted", "node", t.Node, "token", t.ID[:min(8, len(t.ID))])
	return &enrol.Admission{
		Chain: identity.EncodeChain(chain), Root: m.Bundle.Roots()[0].Raw,
		Records: recs.View().Records(),
	}, nil
}

// Issue signs a certificate for a member's own name, or for a service granted
// to it. Spki is the key that the node has proven to hold.
func (i *Issuer) Issue(_ context.Context, node identity.Name, spki []byte, r enrol.Renewal) (*enrol.Issued, error) {
	if !i.Issues() {
		return nil, errNoAuthority
	}
	view := i.conf.Records.View()
	if who, ok := view.Member(node); !ok || !bytes.Equal(who.Public, spki) {
		return nil, fmt.Errorf("node %s is not a member with this key; it must join again", node)
	}
	key, csrKey, err := identity.CSRKeyID(r.CSR)
	if err != nil {
		return nil, err
	}
	if view.Revoked(key) {
		return nil, errors.New("the key has been revoked")
	}
	if r.Service != "" {
		return i.issueService(node, r)
	}
	if !bytes.Equal(csrKey, spki) {
		return nil, errors.New("a node's certificate is renewed for its own long-term key only")
	}
	chain, err := i.conf.Member.Authority.IssueNode(r.CSR, node)
	if err != nil {
		return nil, err
	}
	return &enrol.Issued{Chain: identity.EncodeChain(chain)}, nil
}

func (i *Issuer) issueService(node identity.Name, r enrol.Renewal) (*enrol.Issued, error) {
	if !i.conf.Records.View().Granted(node, r.Service) {
		return nil, fmt.Errorf("service %s is not granted to node %s; on a node with an operator key: tacit node grant %s --service %s", r.Service, node, node, r.Service)
	}
	chain, err := i.conf.Member.Authority.IssueService(r.CSR, r.Service)
	if err != nil {
		return nil, err
	}
	return &enrol.Issued{Chain: identity.EncodeChain(chain)}, nil
}

// SPDX-License-Identifier: Apache-2.0

package membership_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
	"tacit/node/membership"
	"tacit/node/records"
	"tacit/policy/ledger"
)

// craft makes a token for n2 that is valid but for what edit changes.
func (n node) craft(t *testing.T, signer *identity.Key, edit func(*identity.Token)) string {
	t.Helper()
	token := identity.Token{Node: "n2", TrustDomain: domain, Authority: "n1", Addresses: []string{nowhere.String()},
		Root: n.Bundle.Fingerprint(), Expires: time.Now().Add(time.Minute)}
	edit(&token)
	text, err := identity.NewToken(token, signer)
	must(t, err)
	return text
}

func noChange(*identity.Token) {}

// TestAdmitRefuses: and a token that was refused is good afterwards.
func TestAdmitRefuses(t *testing.T) {
	n, other := bootstrap(t, "n1"), bootstrap(t, "n1")
	n.at(t, nowhere)
	n.admit(t, "n3")
	revoked := newKey(t)
	n.revoke(t, revoked.ID(), "n4")
	good := newCSR(t, newKey(t))
	for _, c := range []struct {
		name  string
		token string
		csr   []byte
		want  string
	}{
		{"no token", "", good, "the token can't be read"},
		{"another mesh", other.craft(t, other.Operator.Key(), noChange), good, "for another mesh or another authority"},
		{"another authority", n.craft(t, n.Operator.Key(), func(t *identity.Token) { t.Authority = "n9" }), good, "for another mesh or another authority"},
		{"no operator's", n.craft(t, newKey(t), noChange), good, "signer is no operator"},
		{"expired", n.craft(t, n.Operator.Key(), func(t *identity.Token) { t.Expires = time.Now().Add(-time.Second) }), good, "the token has expired"},
		{"no request", n.craft(t, n.Operator.Key(), noChange), nil, "certificate request"},
		{"a revoked key", n.craft(t, n.Operator.Key(), noChange), newCSR(t, revoked), "the node's key has been revoked; remove its node.key"},
		{"another's name", n.craft(t, n.Operator.Key(), func(t *identity.Token) { t.Node = "n3" }), good, "the name n3 is taken by another node"},
		{"grants that can't be read", n.craft(t, n.Operator.Key(), func(t *identity.Token) { t.Grants = []json.RawMessage{[]byte(`7`)} }), good, "the token's grants: "},
		{"a record that is no grant", n.craft(t, n.Operator.Key(), func(t *identity.Token) { t.Grants = []json.RawMessage{[]byte(`{"kind":"intention"}`)} }), good,
			"the token carries a intention record"},
	} {
		ask := enrol.Ask{Token: c.token, CSR: c.csr}
		if _, err := n.issuer.Admit(t.Context(), ask); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
		if token, err := identity.ParseToken(c.token); err == nil {
			if spent, err := n.store.Spent(token.ID); err != nil || spent {
				t.Errorf("%s: the token is spent: %v", c.name, err)
			}
		}
	}
}

// tokenDisk is a store of spent tokens that fails or always comes too late.
type tokenDisk struct {
	first bool
	err   error
}

func (d tokenDisk) Spend(string, time.Time) (bool, error) { return d.first, d.err }
func (tokenDisk) Spent(string) (bool, error)              { return false, nil }

// TestAdmitSpendsFirst: without a token marked as used on disk, nobody is admitted.
func TestAdmitSpendsFirst(t *testing.T) {
	n := bootstrap(t, "n1")
	for want, disk := range map[string]tokenDisk{"can't be marked as used: cut off": {true, errCut}, "the token has been used": {false, nil}} {
		issuer := membership.NewIssuer(membership.IssuerConfig{Member: n.Member, Self: "n1", Records: n.records, Tokens: disk, Log: n.settings.Log})
		_, err := issuer.Admit(t.Context(), enrol.Ask{Token: n.craft(t, n.Operator.Key(), noChange), CSR: newCSR(t, newKey(t))})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if _, ok := n.records.View().Member("n2"); ok {
			t.Error("n2 is a member all the same")
		}
	}
}

// TestAdmitOnce: of many joins with one token one gets in, and of two tokens
// for one name one.
func TestAdmitOnce(t *testing.T) {
	n := bootstrap(t, "n1")
	n.at(t, nowhere)
	one := n.token(t, membership.TokenRequest{Node: "n2"})
	for name, tokens := range map[string][]string{
		"one token":  {one, one, one, one},
		"two tokens": {n.craft(t, n.Operator.Key(), func(t *identity.Token) { t.Node = "n3" }), n.craft(t, n.Operator.Key(), func(t *identity.Token) { t.Node = "n3" })},
	} {
		var work sync.WaitGroup
		var in atomic.Int32
		for _, text := range tokens {
			csr := newCSR(t, newKey(t))
			work.Go(func() {
				if _, err := n.issuer.Admit(t.Context(), enrol.Ask{Token: text, CSR: csr}); err == nil {
					in.Add(1)
				}
			})
		}
		work.Wait()
		if in.Load() != 1 {
			t.Errorf("%s: %d got in", name, in.Load())
		}
	}
}

// TestAdmitAgain: a node whose answer was lost joins with another token and the
// same key.
func TestAdmitAgain(t *testing.T) {
	n := bootstrap(t, "n1")
	n.at(t, nowhere)
	key := n.admit(t, "n2")
	a, err := n.issuer.Admit(t.Context(), enrol.Ask{Token: n.token(t, membership.TokenRequest{Node: "n2"}), CSR: newCSR(t, key)})
	must(t, err)
	chain, err := identity.DecodeChain(a.Chain)
	must(t, err)
	if !bytes.Equal(chain[0].RawSubjectPublicKeyInfo, key.Public()) {
		t.Error("another key")
	}
}

func TestIssue(t *testing.T) {
	n := bootstrap(t, "n1")
	n.at(t, nowhere)
	key := n.admit(t, "n2", "db")
	fresh := newKey(t)
	for _, c := range []struct {
		renewal enrol.Renewal
		want    identity.ID
	}{
		{enrol.Renewal{CSR: newCSR(t, key)}, identity.NodeID(domain, "n2")},
		{enrol.Renewal{Service: "db", CSR: newCSR(t, fresh)}, identity.ServiceID(domain, "db")},
	} {
		out, err := n.issuer.Issue(t.Context(), "n2", key.Public(), c.renewal)
		must(t, err)
		chain, err := identity.DecodeChain(out.Chain)
		must(t, err)
		if id, err := n.Bundle.Verify(chain, time.Now()); err != nil || id != c.want {
			t.Errorf("issued to %s, %v, want %s", id, err, c.want)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	n := bootstrap(t, "n1")
	n.at(t, nowhere)
	key, revoked, stranger := n.admit(t, "n2"), newKey(t), newKey(t)
	n.revoke(t, revoked.ID(), "n2")
	for _, c := range []struct {
		name    string
		node    identity.Name
		proven  *identity.Key
		renewal enrol.Renewal
		want    string
	}{
		{"no member", "n9", key, enrol.Renewal{CSR: newCSR(t, key)}, "node n9 is not a member with this key"},
		{"another key than the member's", "n2", stranger, enrol.Renewal{CSR: newCSR(t, stranger)}, "node n2 is not a member with this key"},
		{"no request", "n2", key, enrol.Renewal{}, "certificate request"},
		{"a revoked key", "n2", key, enrol.Renewal{CSR: newCSR(t, revoked)}, "the key has been revoked"},
		{"the node's for another key", "n2", key, enrol.Renewal{CSR: newCSR(t, stranger)}, "for its own long-term key only"},
		{"a service without a grant", "n2", key, enrol.Renewal{Service: "db", CSR: newCSR(t, stranger)}, "tacit node grant n2 --service db"},
	} {
		if _, err := n.issuer.Issue(t.Context(), c.node, c.proven.Public(), c.renewal); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

// TestNoAuthority: a node that is none refuses everything.
func TestNoAuthority(t *testing.T) {
	n := bootstrap(t, "n1")
	m := *n.Member
	m.Authority = nil
	issuer := membership.NewIssuer(membership.IssuerConfig{Member: &m, Self: "n1", Records: n.records, Tokens: n.store, Log: n.settings.Log})
	_, admit := issuer.Admit(t.Context(), enrol.Ask{Token: n.craft(t, n.Operator.Key(), noChange), CSR: newCSR(t, newKey(t))})
	_, issue := issuer.Issue(t.Context(), "n1", n.Key.Public(), enrol.Renewal{CSR: newCSR(t, n.Key)})
	for _, err := range []error{admit, issue} {
		if err == nil || !strings.Contains(err.Error(), "this node is not an authority") {
			t.Errorf("%v", err)
		}
	}
}

// brokenRecords can't keep a membership.
type brokenRecords struct{ membership.Records }

func (brokenRecords) Sign(*identity.Key, records.Change) error { return errCut }

// TestAdmitKeepsTheMember: an admission whose record can't be kept fails.
func TestAdmitKeepsTheMember(t *testing.T) {
	n := bootstrap(t, "n1")
	issuer := membership.NewIssuer(membership.IssuerConfig{Member: n.Member, Self: "n1", Records: brokenRecords{n.records}, Tokens: n.store, Log: n.settings.Log})
	_, err := issuer.Admit(t.Context(), enrol.Ask{Token: n.craft(t, n.Operator.Key(), noChange), CSR: newCSR(t, newKey(t))})
	if !errors.Is(err, errCut) || len(n.records.View().Keys(ledger.KindMember)) != 1 {
		t.Errorf("%v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
)

// TestPrepare: a grant in a token uses up its sequence number, isn't in force before
// it is merged, and is superseded by a later withdrawal.
func TestPrepare(t *testing.T) {
	m := newMesh(t)
	before := m.l.Digest()
	tok, err := m.l.Prepare(m.op, KindGrant, "n2/db", statement.Grant{Node: "n2", Service: "db"})
	if err != nil {
		t.Fatal(err)
	}
	if m.l.Digest() != before || m.l.Granted("n2", "db") {
		t.Error("a prepared record is in force")
	}
	next := m.grant("n2", "web")
	if next.Dot.Seq != tok.Dot.Seq+1 {
		t.Errorf("number %d after %d", next.Dot.Seq, tok.Dot.Seq)
	}
	redeemed := m.copyOf(m.l)
	m.takes(redeemed, tok)
	if !redeemed.Granted("n2", "db") {
		t.Error("a redeemed grant isn't in force")
	}
	m.signOn(m.l, m.op, KindGrant, "n2/db", nil, true)
	m.refuses(m.l, tok, ErrStale)

	restarted := m.empty()
	if err := restarted.Restore(m.l.Records(), m.l.Last()); err != nil {
		t.Fatal(err)
	}
	restarted.Reserve(Dot{m.op.ID(), 5<<30 + 100})
	if r := m.signOn(restarted, m.op, KindGrant, "n1/x", statement.Grant{Node: "n1", Service: "x"}, false); r.Dot.Seq != 6<<30+1 {
		t.Errorf("number %d in spite of the reservation", r.Dot.Seq)
	}
	if d, err := m.l.PrepareDelete(m.op, KindGrant, "n2/web", nil); err != nil || !d.Delete || !m.l.Granted("n2", "web") {
		t.Errorf("prepared delete: %+v, %v", d, err)
	}
}

// TestOwnNumbersReturn: a signer that lost its state begins an epoch above its own
// records, which it gets from other nodes.
func TestOwnNumbersReturn(t *testing.T) {
	m := newMesh(t)
	for range 3 {
		m.intend(m.l, m.op, policy.Allow, "web", "db")
	}
	if r := m.intend(m.copyOf(m.l), m.op, policy.Deny, "web", "db"); r.Dot.Seq != Epoch(time.Time{}, 0, epochOf(m.l.Last()[m.op.ID()]))<<16+1 {
		t.Errorf("number %d", r.Dot.Seq)
	}
}

// TestManySigners: a conflict of more than 64 operators can't be resolved, but deny
// wins; after some of them are revoked, the conflict can be resolved.
func TestManySigners(t *testing.T) {
	m := newMesh(t)
	ops := make([]*identity.Key, 70)
	for i := range ops {
		ops[i] = newKey(t)
		m.operator(m.root, ops[i])
	}
	base := m.copyOf(m.l)
	for _, k := range ops {
		m.takes(m.l, m.intend(m.copyOf(base), k, policy.Allow, "web", "db"))
	}
	m.intend(m.l, m.op, policy.Deny, "web", "db")
	if action(m.l, "web", "db") != policy.Deny {
		t.Error("a deny among many doesn't win")
	}
	for _, k := range ops[:10] {
		m.revoke(m.root, k)
	}
	m.unintend(m.l, m.op, "web", "db")
	if n := len(m.l.Heads(KindIntention, "web>db")); n != 1 {
		t.Errorf("%d heads", n)
	}
}

// TestRevokedNodeReturns: a node's new key may sign the records of the old one.
func TestRevokedNodeReturns(t *testing.T) {
	m := newMesh(t)
	m.grant("n1", "db")
	m.instance(m.n1, "n1", "db", "db")
	m.revoke(m.op, m.n1)
	fresh := newKey(t)
	m.member(m.auth, "n1", fresh)
	if len(m.l.Instances()) != 0 {
		t.Error("the old key's instance is in force")
	}
	m.instance(fresh, "n1", "db", "db")
	if len(m.l.Instances()) != 1 {
		t.Error("the new key's instance isn't in force")
	}
}

func TestBadBodies(t *testing.T) {
	m := newMesh(t)
	raw := func(s string) any { return json.RawMessage(s) }
	for _, c := range []struct {
		name string
		key  *identity.Key
		kind Kind
		rkey string
		body any
	}{
		{"upper case", m.op, KindGrant, "N1/db", statement.Grant{Node: "N1", Service: "db"}},
		{"other key", m.op, KindGrant, "n1/web", statement.Grant{Node: "n1", Service: "db"}},
		{"wildcard grant", m.op, KindGrant, "n1/*", statement.Grant{Node: "n1", Service: "*"}},
		{"unknown field", m.op, KindGrant, "n1/db", raw(`{"node":"n1","service":"db","until":"x"}`)},
		{"field twice", m.op, KindGrant, "n1/db", raw(`{"node":"n2","node":"n1","service":"db"}`)},
		{"not JSON's object", m.op, KindGrant, "n1/db", raw(`[]`)},
		{"null", m.op, KindGrant, "n1/db", nil},
		{"no action", m.op, KindIntention, "web>db", raw(`{"source":"web","destination":"db","action":""}`)},
		{"pattern", m.op, KindIntention, "web-*>db", policy.Intention{Source: "web-*", Destination: "db", Action: policy.Allow}},
		{"bad description", m.op, KindIntention, "web>db", policy.Intention{Source: "web", Destination: "db", Action: policy.Allow, Description: "\x1b[2J"}},
		{"another service's rules", m.op, KindResolver, "web", resolver.Rules{Service: "db", Failover: []identity.Name{"db2"}}},
		{"a loop", m.op, KindResolver, "db", resolver.Rules{Service: "db", Failover: []identity.Name{"db"}}},
		{"bad operator key", m.op, KindOperator, m.n1.ID().String(), statement.Operator{Node: "n1", Public: m.n1.Public()[1:]}},
		{"another's operator key", m.op, KindOperator, m.n1.ID().String(), statement.Operator{Node: "n1", Public: m.n2.Public()}},
		{"no certificate", m.op, KindAuthority, "n1", statement.Authority{Node: "n1", Certificate: []byte("x")}},
		{"address with zone", m.n1, KindNode, "n1", statement.Node{Node: "n1", Address: "fe80::1%eth0", LanePort: 1}},
		{"mapped address", m.n1, KindNode, "n1", statement.Node{Node: "n1", Address: "::ffff:10.0.0.1", LanePort: 1}},
		{"host name", m.n1, KindNode, "n1", statement.Node{Node: "n1", Address: "host", LanePort: 1}},
		{"no lane port", m.n1, KindNode, "n1", statement.Node{Node: "n1", Address: "10.0.0.1"}},
		{"id with space", m.n1, KindInstance, "n1/a b", statement.Instance{Node: "n1", Service: "db", ID: "a b"}},
		{"weight", m.n1, KindInstance, "n1/a", statement.Instance{Node: "n1", Service: "db", ID: "a", Weight: -1}},
		{"down", m.n1, KindInstance, "n1/a", statement.Instance{Node: "n1", Service: "db", ID: "a", Down: "check \x1b[2J"}},
		{"long down", m.n1, KindInstance, "n1/a", statement.Instance{Node: "n1", Service: "db", ID: "a", Down: strings.Repeat("x", 257)}},
		{"grant for a bad ingress", m.op, KindGrant, "n1/ingress/", statement.Grant{Node: "n1", Service: "ingress/"}},
		{"ingress as destination", m.op, KindIntention, "web>ingress/a", policy.Intention{Source: "web", Destination: "ingress/a", Action: policy.Allow}},
		{"ingress that doesn't say where", m.n1, KindInstance, "n1/ingress/a", statement.Instance{Node: "n1", Service: "ingress/a", ID: "ingress/a"}},
		{"ingress that can be called", m.n1, KindInstance, "n1/ingress/a", statement.Instance{Node: "n1", Service: "ingress/a", ID: "ingress/a", Port: 80, Ingress: &statement.Ingress{Listen: ":80", Service: "db", Port: 0}}},
		{"ingress to an ingress", m.n1, KindInstance, "n1/ingress/a", statement.Instance{Node: "n1", Service: "ingress/a", ID: "ingress/a", Ingress: &statement.Ingress{Listen: ":80", Service: "ingress/a", Port: 0}}},
		{"service that takes plain connections", m.n1, KindInstance, "n1/web", statement.Instance{Node: "n1", Service: "web", ID: "web", Ingress: &statement.Ingress{Listen: ":80", Service: "db", Port: 0}}},
		{"another root", m.root, KindRoot, td, statement.Root{Certificate: caCert(t, m.op)}},
		{"another trust domain", m.root, KindRoot, "other.test", statement.Root{Certificate: caCert(t, m.root)}},
	} {
		if _, err := m.l.Sign(c.key, c.kind, c.rkey, c.body, false); !errors.Is(err, ErrBody) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for kind, key := range map[Kind]string{KindGrant: "n1", KindInstance: "n1", KindIntention: "web", KindNode: "N1", KindResolver: "DB", KindOperator: m.op.ID().String()} {
		if _, err := m.l.Sign(m.op, kind, key, nil, true); !errors.Is(err, ErrMalformed) {
			t.Errorf("delete %s %s: %v", kind, key, err)
		}
	}
	more := raw(`{"node":"n1","service":"db","id":"a","speed":"later versions may say more"}`)
	if _, err := m.l.Sign(m.n1, KindInstance, "n1/a", more, false); err != nil {
		t.Errorf("an instance of a later version: %v", err)
	}
}

// TestJSON: records survive encoding byte for byte, with any body.
func TestJSON(t *testing.T) {
	m := newMesh(t)
	m.sign(m.op, KindIntention, "web>db", policy.Intention{Source: "web", Destination: "db", Action: policy.Allow, Description: `<a> & "b" ü \u2028`})
	m.unintend(m.l, m.op2, "web", "cache")
	m.instance(m.n1, "n1", "db", "db<1>&")
	text, err := json.Marshal(m.l.Records())
	if err != nil {
		t.Fatal(err)
	}
	var again []Record
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, m.l.Records()) {
		t.Error("the records differ after decoding")
	}
	l := m.empty()
	m.takes(l, again...)
	m.same(l, m.l)
}

// TestRestore: a ledger is restored from stored records alone; a damaged record is
// reported and left out, and a revoked signer's record stays void.
func TestRestore(t *testing.T) {
	m := newMesh(t)
	history(m)
	keep := newKeeper(m)
	l := m.empty()
	if err := l.Restore(keep.records(), m.l.Last()); err != nil {
		t.Fatal(err)
	}
	m.same(l, m.l)
	if !reflect.DeepEqual(l.Intentions(), m.l.Intentions()) || !reflect.DeepEqual(l.Instances(), m.l.Instances()) {
		t.Error("the views differ after Restore")
	}
	changed, _ := l.Merge(m.made)
	if len(changed) != 0 || l.Digest() != m.l.Digest() {
		t.Errorf("replaying everything after Restore changes %d records", len(changed))
	}

	broken := slices.Clone(m.l.Records())
	broken[len(broken)-1].Signature = []byte{1}
	if err := m.empty().Restore(broken, nil); !errors.Is(err, ErrSignature) {
		t.Errorf("a damaged record: %v", err)
	}
	if err := m.empty().Restore(nil, map[identity.KeyID]uint64{{}: 1 << 63}); err == nil {
		t.Error("a number out of range is taken")
	}
}

// keeper stores records as package store does: by ID, without those that the ledger
// has dropped.
type keeper map[string]Record

func newKeeper(m *mesh) keeper {
	k := keeper{}
	l := m.empty()
	for range 4 {
		for _, r := range m.made {
			changed, _ := l.Merge([]Record{r})
			k.keep(l, changed)
		}
	}
	return k
}

func (k keeper) keep(l *Ledger, changed []Record) {
	for _, r := range changed {
		k[r.ID()] = r
	}
	for _, d := range l.Dropped() {
		delete(k, d)
	}
}

func (k keeper) records() []Record { return slices.Collect(maps.Values(k)) }

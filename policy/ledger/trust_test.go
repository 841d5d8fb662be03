// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"errors"
	"testing"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
)

// TestWhoMaySign is the table of permitted signers; Sign and Merge refuse all others.
func TestWhoMaySign(t *testing.T) {
	m := newMesh(t)
	stranger, fresh := newKey(t), newKey(t)
	all := map[string]*identity.Key{"root": m.root, "op": m.op, "auth": m.auth, "n1": m.n1, "n2": m.n2, "stranger": stranger}
	for _, c := range []struct {
		kind Kind
		key  string
		body any
		may  []string
	}{
		{KindRoot, td, statement.Root{Certificate: caCert(t, m.root)}, []string{"root"}},
		{KindOperator, fresh.ID().String(), statement.Operator{Node: "n1", Public: fresh.Public()}, []string{"root", "op"}},
		{KindRevocation, fresh.ID().String(), statement.Revocation{Public: fresh.ID()}, []string{"root", "op"}},
		{KindAuthority, "n2", statement.Authority{Node: "n2", Certificate: caCert(t, fresh)}, []string{"root", "op"}},
		{KindMember, "n3", statement.Member{Node: "n3", Public: fresh.Public()}, []string{"auth"}},
		{KindGrant, "n1/db", statement.Grant{Node: "n1", Service: "db"}, []string{"op"}},
		{KindNode, "n1", statement.Node{Node: "n1", Address: "10.0.0.1", LanePort: 1}, []string{"n1"}},
		{KindInstance, "n1/db", statement.Instance{Node: "n1", Service: "db", ID: "db"}, []string{"n1"}},
		{KindIntention, "web>db", policy.Intention{Source: "web", Destination: "db", Action: policy.Allow}, []string{"op"}},
		{KindResolver, "db", resolver.Rules{Service: "db", Failover: []identity.Name{"db2"}}, []string{"op"}},
	} {
		for name, k := range all {
			may := false
			for _, n := range c.may {
				may = may || n == name
			}
			l := m.copyOf(m.l)
			_, err := l.Sign(k, c.kind, c.key, c.body, false)
			if may != (err == nil) || !may && !errors.Is(err, ErrNotAuthorized) {
				t.Errorf("%s signs %s: %v", name, c.kind, err)
			}
			r := m.craft(k, Record{Kind: c.kind, Key: c.key}, c.body)
			if may {
				m.takes(m.copyOf(m.l), r)
			} else {
				m.refuses(m.l, r, ErrNotAuthorized)
			}
		}
	}
}

func TestRevokedMember(t *testing.T) {
	m := newMesh(t)
	m.grant("n2", "db")
	m.sign(m.n2, KindNode, "n2", statement.Node{Node: "n2", Address: "10.0.0.2", LanePort: 1})
	m.instance(m.n2, "n2", "db", "db")
	if len(m.l.Instances()) != 1 || !m.l.Granted("n2", "db") {
		t.Fatal("the instance isn't in force")
	}
	late := m.craft(m.n2, Record{Kind: KindInstance, Key: "n2/x"}, statement.Instance{Node: "n2", Service: "db", ID: "x"})
	m.revoke(m.op, m.n2)
	_, member := m.l.Member("n2")
	_, node := m.l.Node("n2")
	if member || node || len(m.l.Instances()) != 0 || m.l.Granted("n2", "db") || !m.l.Revoked(m.n2.ID()) {
		t.Errorf("a revoked member is in force: member %v, node %v, %v", member, node, m.l.Instances())
	}
	m.refuses(m.l, late, ErrRevoked)
	if _, err := m.l.Sign(m.n2, KindNode, "n2", statement.Node{Node: "n2", Address: "10.0.0.2", LanePort: 1}, false); !errors.Is(err, ErrRevoked) {
		t.Errorf("a revoked member signs: %v", err)
	}
	if _, err := m.l.Sign(m.auth, KindMember, "n2", statement.Member{Node: "n2", Public: m.n2.Public()}, false); !errors.Is(err, ErrRevoked) {
		t.Errorf("a revoked key is admitted again: %v", err)
	}
	fresh := newKey(t)
	m.member(m.auth, "n2", fresh)
	if got, ok := m.l.Member("n2"); !ok || identityOf(got.Public) != fresh.ID() || len(m.l.Instances()) != 0 {
		t.Errorf("the name isn't free for a new key: %v; instances %v", ok, m.l.Instances())
	}
	again := m.empty()
	m.takes(again, m.l.Records()...)
	m.same(again, m.l)
}

func identityOf(spki []byte) identity.KeyID {
	id, err := identity.KeyIDOf(spki)
	if err != nil {
		panic(err)
	}
	return id
}

func TestNameTaken(t *testing.T) {
	m := newMesh(t)
	thief, other := newKey(t), newKey(t)
	if _, err := m.l.Sign(m.auth, KindMember, "n2", statement.Member{Node: "n2", Public: thief.Public()}, false); !errors.Is(err, ErrNameTaken) {
		t.Errorf("a taken name is given away: %v", err)
	}
	m.member(m.auth, "n2", m.n2) // the same key again is no conflict

	// An authority that skips the check supersedes the record it knows: neither
	// key is a member, in either order.
	forced := m.craft(m.auth, Record{Kind: KindMember, Key: "n2", Supersedes: []Dot{m.l.Heads(KindMember, "n2")[0].Dot}}, statement.Member{Node: "n2", Public: thief.Public()})
	m.takes(m.l, forced)
	if _, ok := m.l.Member("n2"); ok || len(m.l.Heads(KindMember, "n2")) != 2 {
		t.Errorf("a name with two keys: member %v, %d heads", ok, len(m.l.Heads(KindMember, "n2")))
	}
	m.revoke(m.op, thief)
	if got, ok := m.l.Member("n2"); !ok || identityOf(got.Public) != m.n2.ID() {
		t.Error("revoking one of the keys doesn't resolve the conflict")
	}

	m.grant("n2", "db")
	m.sign(m.n2, KindNode, "n2", statement.Node{Node: "n2", Address: "10.0.0.2", LanePort: 1})
	m.instance(m.n2, "n2", "db", "db")
	m.signOn(m.l, m.auth, KindMember, "n2", nil, true)
	_, member := m.l.Member("n2")
	_, node := m.l.Node("n2")
	if member || node || len(m.l.Instances())+len(m.l.Published("n2"))+len(m.l.Heads(KindInstance, "n2/db")) != 0 {
		t.Error("a deleted member, or what it signed, is in force")
	}
	m.member(m.auth, "n2", other)
	if got, ok := m.l.Member("n2"); !ok || identityOf(got.Public) != other.ID() {
		t.Error("the name isn't free after the delete")
	}
}

func TestTwoAuthoritiesAddOneName(t *testing.T) {
	m := newMesh(t)
	auth2, a, b := newKey(t), newKey(t), newKey(t)
	m.sign(m.op, KindAuthority, "n2", statement.Authority{Node: "n2", Certificate: caCert(t, auth2)})
	left, right := m.copyOf(m.l), m.copyOf(m.l)
	ra := m.signOn(left, m.auth, KindMember, "n3", statement.Member{Node: "n3", Public: a.Public()}, false)
	rb := m.signOn(right, auth2, KindMember, "n3", statement.Member{Node: "n3", Public: b.Public()}, false)
	m.takes(left, rb)
	m.takes(right, ra)
	m.same(left, right)
	for _, l := range []*Ledger{left, right} {
		if _, ok := l.Member("n3"); ok || len(l.Heads(KindMember, "n3")) != 2 {
			t.Error("one of two concurrent keys is a member")
		}
	}
}

// TestRevokedOperator: the operator's records are void, those that it superseded count
// again, and operators that only it authorised are no operators any more.
func TestRevokedOperator(t *testing.T) {
	m := newMesh(t)
	q := newKey(t)
	first := m.intend(m.l, m.op2, policy.Deny, "web", "db")
	m.intend(m.l, m.op, policy.Allow, "web", "db")
	m.intend(m.l, m.op, policy.Allow, "web", "cache")
	m.grant("n2", "db")
	m.operator(m.op, q)
	m.intend(m.l, q, policy.Allow, "x", "y")
	if action(m.l, "web", "db") != policy.Allow || len(m.l.SignedBy(m.op.ID())) != 4 {
		t.Fatalf("allow isn't in force, or SignedBy returns %d", len(m.l.SignedBy(m.op.ID())))
	}
	late := m.craft(m.op, Record{Kind: KindIntention, Key: "a>b"}, policy.Intention{Source: "a", Destination: "b", Action: policy.Allow})
	m.revoke(m.op2, m.op)
	if action(m.l, "web", "db") != policy.Deny || action(m.l, "web", "cache") != 0 || action(m.l, "x", "y") != 0 {
		t.Errorf("intentions after the revocation: %v", m.l.Intentions())
	}
	if m.l.IsOperator(m.op.ID()) || m.l.IsOperator(q.ID()) || m.l.Granted("n2", "db") || len(m.l.Operators()) != 1 {
		t.Error("the operator, its grant, or whom it made operator is in force")
	}
	m.refuses(m.l, late, ErrRevoked)
	if _, err := m.l.Sign(q, KindRevocation, m.op2.ID().String(), statement.Revocation{Public: m.op2.ID()}, false); !errors.Is(err, ErrNotAuthorized) {
		t.Errorf("an operator whose maker is revoked signs: %v", err)
	}
	if got := m.l.Heads(KindIntention, "web>db"); len(got) != 1 || got[0].Dot != first.Dot {
		t.Errorf("heads %v", got)
	}

	// The same in one batch, and with the revocation first.
	once := m.empty()
	once.Merge(m.made)
	m.same(once, m.l)
	reverse := m.empty()
	for i := len(m.made) - 1; i >= 0; i-- {
		reverse.Merge(m.made[i:])
	}
	m.same(reverse, m.l)

	m.operator(m.op2, q)
	if !m.l.IsOperator(q.ID()) || action(m.l, "x", "y") != policy.Allow {
		t.Error("an operator that another vouches for anew is none")
	}
}

// TestOperatorsRevokeEachOther: both are revoked, in either order, until the root
// revokes one of them.
func TestOperatorsRevokeEachOther(t *testing.T) {
	m := newMesh(t)
	left, right := m.copyOf(m.l), m.copyOf(m.l)
	a := m.signOn(left, m.op, KindRevocation, m.op2.ID().String(), statement.Revocation{Public: m.op2.ID()}, false)
	b := m.signOn(right, m.op2, KindRevocation, m.op.ID().String(), statement.Revocation{Public: m.op.ID()}, false)
	m.takes(left, b)
	m.takes(right, a)
	m.same(left, right)
	if left.IsOperator(m.op.ID()) || left.IsOperator(m.op2.ID()) {
		t.Error("one of two that revoked each other is an operator")
	}
	r := m.signOn(left, m.root, KindRevocation, m.op2.ID().String(), statement.Revocation{Public: m.op2.ID()}, false)
	m.takes(right, r)
	m.same(left, right)
	if !left.IsOperator(m.op.ID()) || left.IsOperator(m.op2.ID()) {
		t.Error("the root's revocation doesn't undo those of the revoked")
	}
	m.refuses(m.l, m.craft(m.op, Record{Kind: KindRevocation, Key: m.root.ID().String()}, statement.Revocation{Public: m.root.ID()}), ErrBody)
}

// TestAuthorityKeys: without the authority's key, nodes that only it admitted are no
// members; a renewed certificate with another key keeps the members of the old one.
func TestAuthorityKeys(t *testing.T) {
	m := newMesh(t)
	renewed := newKey(t)
	m.sign(m.op, KindAuthority, "n1", statement.Authority{Node: "n1", Certificate: caCert(t, renewed)})
	if !m.l.IsAuthority(m.auth.ID()) || !m.l.IsAuthority(renewed.ID()) || len(m.l.Members()) != 2 || len(m.l.Authorities()) != 1 {
		t.Error("a second intermediate displaces the first")
	}
	m.member(renewed, "n1", m.n1)
	m.revoke(m.op, m.auth)
	if m.l.IsAuthority(m.auth.ID()) || len(m.l.Members()) != 1 || m.l.Members()[0].Node != "n1" {
		t.Errorf("members %v after the authority's revocation", m.l.Members())
	}
	m.signOn(m.l, m.op, KindAuthority, "n1", nil, true)
	if m.l.IsAuthority(renewed.ID()) || len(m.l.Authorities()) != 0 {
		t.Error("a deleted authority is one")
	}
}

func TestWithdrawnGrant(t *testing.T) {
	m := newMesh(t)
	m.grant("n1", "db")
	m.grant("n1", "web")
	m.instance(m.n1, "n1", "db", "db-1")
	m.instance(m.n1, "n1", "web", "web-1")
	m.instance(m.n1, "n1", "web", "web-2")
	m.instance(m.n1, "n1", "other", "other")
	if got := m.l.Instances(); len(got) != 3 {
		t.Errorf("instances %v", got)
	}
	m.signOn(m.l, m.op2, KindGrant, "n1/web", nil, true)
	if got := m.l.Instances(); len(got) != 1 || got[0].ID != "db-1" || m.l.Granted("n1", "web") || len(m.l.Grants("n1")) != 1 {
		t.Errorf("instances %v, grants %v after the withdrawal", got, m.l.Grants("n1"))
	}
	if got := m.l.Published("n1"); len(got) != 4 {
		t.Errorf("published %v", got)
	}
}

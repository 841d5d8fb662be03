// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"tacit/policy"
	"tacit/policy/ledger/statement"
)

func TestByzantine(t *testing.T) {
	m := newMesh(t)
	m.grant("n1", "db")
	m.instance(m.n1, "n1", "db", "db")
	body := statement.Instance{Node: "n1", Service: "db", ID: "db", Port: 81}
	inst := Record{Kind: KindInstance, Key: "n1/db"}
	good := m.craft(m.n1, inst, body)
	future := Dot{m.op.ID(), 1<<40 | 1}
	with := func(r Record, f func(*Record)) Record { f(&r); return r }
	for _, c := range []struct {
		name string
		rec  Record
		want error
	}{
		{"changed body", with(good, func(r *Record) { r.Body = bytes.Replace(r.Body, []byte("81"), []byte("82"), 1) }), ErrSignature},
		{"changed number", with(good, func(r *Record) { r.Dot.Seq += 7 }), ErrSignature},
		{"added supersedes", with(good, func(r *Record) { r.Supersedes = []Dot{{m.n1.ID(), 1}} }), ErrSignature},
		{"no signature", with(good, func(r *Record) { r.Signature = nil }), ErrSignature},
		{"another's signature", m.seal(m.n2, good), ErrSignature},
		{"another's dot", with(good, func(r *Record) { r.Dot.Signer = m.n2.ID() }), ErrMalformed},
		{"number 0", m.seal(m.n1, with(good, func(r *Record) { r.Dot.Seq = 0 })), ErrMalformed},
		{"last number", m.seal(m.n1, with(good, func(r *Record) { r.Dot.Seq = 1<<64 - 1 })), ErrMalformed},
		{"a node marks an operator's future dots", m.craft(m.n1, Record{Kind: KindInstance, Key: "n1/db", Supersedes: []Dot{future}}, body), ErrMalformed},
		{"own dot of the future", m.craft(m.n1, Record{Kind: KindInstance, Key: "n1/db", Supersedes: []Dot{{m.n1.ID(), 1<<40 | 1}}}, body), ErrMalformed},
		{"another's whole past", m.craft(m.op, Record{Kind: KindGrant, Key: "n1/db", Supersedes: []Dot{{m.op2.ID(), 1 << 40}}}, statement.Grant{Node: "n1", Service: "db"}), ErrMalformed},
		{"counter 0", m.seal(m.n1, with(good, func(r *Record) { r.Dot.Seq = 9 << 16 })), ErrMalformed},
		{"65 superseded", m.craft(m.op, Record{Kind: KindGrant, Key: "n1/db", Supersedes: slices.Repeat([]Dot{{m.op2.ID(), 1}}, 65)}, statement.Grant{Node: "n1", Service: "db"}), ErrMalformed},
		{"another node's instance", m.craft(m.n2, inst, body), ErrNotAuthorized},
		{"another node in the body", m.craft(m.n2, Record{Kind: KindInstance, Key: "n2/db"}, body), ErrBody},
		{"another node's record", m.craft(m.n2, Record{Kind: KindNode, Key: "n1"}, statement.Node{Node: "n1", Address: "10.0.0.9", LanePort: 1}), ErrNotAuthorized},
		{"a node grants", m.craft(m.n1, Record{Kind: KindGrant, Key: "n1/bank"}, statement.Grant{Node: "n1", Service: "bank"}), ErrNotAuthorized},
		{"a node makes policy", m.craft(m.n1, Record{Kind: KindIntention, Key: "*>*"}, policy.Intention{Source: "*", Destination: "*", Action: policy.Allow}), ErrNotAuthorized},
		{"a node deletes policy", m.craft(m.n1, Record{Kind: KindIntention, Key: "*>*", Delete: true}, nil), ErrNotAuthorized},
		{"unknown kind", m.craft(m.op, Record{Kind: "will", Key: "x"}, body), ErrMalformed},
		{"delete with a body", m.craft(m.op, Record{Kind: KindGrant, Key: "n1/db", Delete: true}, statement.Grant{Node: "n1", Service: "db"}), ErrMalformed},
		{"no body", m.craft(m.op, Record{Kind: KindGrant, Key: "n1/db"}, nil), ErrMalformed},
		{"a revocation taken back", m.craft(m.op, Record{Kind: KindRevocation, Key: m.n1.ID().String(), Delete: true}, nil), ErrMalformed},
		{"long key", m.craft(m.n1, Record{Kind: KindInstance, Key: string(make([]byte, 256))}, body), ErrMalformed},
		{"long body", m.craft(m.op, Record{Kind: KindGrant, Key: "n1/db"}, string(make([]byte, maxBody))), ErrMalformed},
	} {
		changed, rejected := m.l.Merge([]Record{c.rec})
		if len(changed) != 0 || len(rejected) != 1 || !errors.Is(rejected[0].Err, c.want) {
			t.Errorf("%s: changed %d, rejected %v, want %v", c.name, len(changed), rejected, c.want)
		}
	}
	m.takes(m.l, good)
	m.takes(m.l, m.intend(m.copyOf(m.l), m.op, policy.Deny, "web", "db")) // the operator's sequence continues
}

// TestEquivocation: of two bodies with one dot, all ledgers keep the same.
func TestEquivocation(t *testing.T) {
	m := newMesh(t)
	node := func(addr string) Record {
		return m.craft(m.n1, Record{Kind: KindNode, Key: "n1", Dot: Dot{Seq: 5}}, statement.Node{Node: "n1", Address: addr, LanePort: 1})
	}
	a, b := node("10.0.0.1"), node("10.0.0.2")
	c := m.craft(m.n1, Record{Kind: KindInstance, Key: "n1/x", Dot: Dot{Seq: 5}}, statement.Instance{Node: "n1", Service: "x", ID: "x"})
	want := m.copyOf(m.l)
	want.Merge([]Record{a, b, c})
	for _, order := range [][]Record{{a, b, c}, {c, b, a}, {b, c, a}, {c, a, b}, {b, a, c}, {a, c, b}} {
		l := m.copyOf(m.l)
		for _, r := range order {
			l.Merge([]Record{r})
		}
		m.same(l, want)
	}

	// The same statement signed twice is the same record.
	twice := m.seal(m.n1, a)
	l := m.copyOf(m.l)
	m.takes(l, a)
	if changed, rejected := l.Merge([]Record{twice}); len(changed)+len(rejected) != 0 {
		t.Errorf("a second signature: changed %d, rejected %v", len(changed), rejected)
	}
}

// TestSupersedeEachOther: an operator supersedes another's future record: both are
// heads, and deny wins.
func TestSupersedeEachOther(t *testing.T) {
	m := newMesh(t)
	grab := m.craft(m.op, Record{Kind: KindIntention, Key: "web>db", Supersedes: []Dot{{m.op2.ID(), Epoch(time.Time{}, 0, 0)<<16 + 9}}},
		policy.Intention{Source: "web", Destination: "db", Action: policy.Allow})
	m.takes(m.l, grab)
	m.intend(m.l, m.op2, policy.Deny, "web", "db")
	m.intend(m.l, m.op2, policy.Deny, "web", "other")
	if action(m.l, "web", "db") != policy.Deny || len(m.l.Heads(KindIntention, "web>db")) != 2 || action(m.l, "web", "other") != policy.Deny {
		t.Errorf("intentions %v", m.l.Intentions())
	}
}

// TestUsage: a node can't make other nodes hold more than maxUsage.
func TestUsage(t *testing.T) {
	m := newMesh(t)
	tags := slices.Repeat([]string{string(bytes.Repeat([]byte("x"), 250))}, 60)
	var recs []Record
	for i := range 300 {
		id := string(rune('a'+i%26)) + string(rune('a'+i/26))
		recs = append(recs, m.craft(m.n1, Record{Kind: KindInstance, Key: "n1/" + id, Dot: Dot{Seq: uint64(2*i + 1)}},
			statement.Instance{Node: "n1", Service: "db", ID: id, Tags: tags}))
	}
	_, rejected := m.l.Merge(recs)
	if len(rejected) == 0 || !errors.Is(rejected[0].Err, ErrLimit) || m.l.usage[m.n1.ID()] > maxUsage {
		t.Fatalf("%d rejected, %d bytes held", len(rejected), m.l.usage[m.n1.ID()])
	}
	m.signOn(m.l, m.n1, KindInstance, m.l.Keys(KindInstance)[0], nil, true)
	if _, rejected := m.l.Merge([]Record{rejected[0].Record}); len(rejected) > 0 {
		t.Errorf("a delete frees nothing: %v", rejected[0].Err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"tacit/identity"
	"tacit/policy"
)

// TestAnyOrder merges one history shuffled, in batches and with repeats; a single
// batch is enough in any order.
func TestAnyOrder(t *testing.T) {
	m := newMesh(t)
	history(m)
	want := m.empty()
	want.Merge(m.made)
	m.same(want, m.l)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 30 {
		recs := slices.Concat(m.made, m.made[:len(m.made)/3])
		r.Shuffle(len(recs), func(i, j int) { recs[i], recs[j] = recs[j], recs[i] })
		once := m.empty()
		once.Merge(recs)
		m.same(once, want)

		pieces := m.empty()
		for range 4 { // refused records are merged again
			for batch := range slices.Chunk(recs, 1+r.IntN(7)) {
				pieces.Merge(batch)
			}
		}
		m.same(pieces, want)
		if changed, _ := pieces.Merge(recs); len(changed) != 0 {
			t.Errorf("a repeat changes %d records", len(changed))
		}
	}
}

// history signs records of all kinds, with conflicts and revocations.
func history(m *mesh) {
	other, auth2, n3, op3 := m.copyOf(m.l), newKey(m), newKey(m), newKey(m)
	m.intend(m.l, m.op, policy.Allow, "web", "db")
	m.intend(other, m.op2, policy.Deny, "web", "db")
	m.intend(other, m.op2, policy.Allow, "web", "cache")
	m.unintend(other, m.op2, "web", "cache")
	m.takes(m.l, other.Records()...)
	m.intend(m.l, m.op, policy.Allow, "web", "cache")
	m.sign(m.op, KindAuthority, "n2", AuthorityBody{"n2", caCert(m, auth2)})
	m.member(auth2, "n3", n3)
	m.grant("n3", "db")
	for range 3 {
		m.instance(n3, "n3", "db", "db")
	}
	m.operator(m.op, op3)
	m.intend(m.l, op3, policy.Deny, "web", "cache")
	m.sign(op3, KindGrant, "n2/db", GrantBody{"n2", "db"})
	m.revoke(m.op2, op3)
	m.instance(m.n2, "n2", "db", "db")
	m.revoke(m.op, m.n2)
}

// TestConflict: deny wins, then delete, then allow; the heads stay visible, and one
// record resolves the conflict.
func TestConflict(t *testing.T) {
	for _, c := range []struct {
		name        string
		left, right policy.Action // 0: delete
		want        policy.Action // 0: no intention
	}{
		{"allow and deny", policy.Allow, policy.Deny, policy.Deny},
		{"allow and delete", policy.Allow, 0, 0},
		{"deny and delete", policy.Deny, 0, policy.Deny},
		{"allow twice", policy.Allow, policy.Allow, policy.Allow},
		{"delete twice", 0, 0, 0},
	} {
		m := newMesh(t)
		m.intend(m.l, m.op, policy.Allow, "web", "db")
		left, right := m.copyOf(m.l), m.copyOf(m.l)
		write := func(l *Ledger, k *identity.Key, a policy.Action) Record {
			if a == 0 {
				return m.unintend(l, k, "web", "db")
			}
			return m.intend(l, k, a, "web", "db")
		}
		a, b := write(left, m.op, c.left), write(right, m.op2, c.right)
		m.takes(left, b)
		m.takes(right, a)
		m.same(left, right)
		if got := action(left, "web", "db"); got != c.want || len(left.Heads(KindIntention, "web>db")) != 2 {
			t.Errorf("%s: %v with %d heads, want %v", c.name, got, len(left.Heads(KindIntention, "web>db")), c.want)
		}
		resolved := m.intend(left, m.op, policy.Allow, "web", "db")
		m.takes(right, resolved)
		m.same(left, right)
		if action(right, "web", "db") != policy.Allow || len(right.Heads(KindIntention, "web>db")) != 1 {
			t.Errorf("%s: not resolved", c.name)
		}
	}
}

// TestStale: a superseded record is refused for ever, also after a restart, even if
// the record that superseded it is no longer held.
func TestStale(t *testing.T) {
	m := newMesh(t)
	old := m.intend(m.l, m.op, policy.Allow, "web", "db")
	gone := m.unintend(m.l, m.op, "web", "db")
	m.refuses(m.l, old, ErrStale)

	kept := slices.DeleteFunc(m.l.Records(), func(r Record) bool { return r.Dot == gone.Dot })
	text, err := json.Marshal(m.l.Seen())
	if err != nil {
		t.Fatal(err)
	}
	var seen map[identity.KeyID]Ranges
	if err := json.Unmarshal(text, &seen); err != nil {
		t.Fatal(err)
	}
	again := m.empty()
	if err := again.Restore(kept, seen); err != nil {
		t.Fatal(err)
	}
	m.refuses(again, old, ErrStale)
	m.refuses(again, gone, ErrStale)
	if n := again.Seen()[m.op.ID()]; len(n) != 1 || n[0] != (Range{1, 2}) {
		t.Errorf("seen %v isn't compact", n)
	}

	fresh := m.empty() // never saw the old one
	m.takes(fresh, m.l.Records()...)
	m.refuses(fresh, old, ErrStale)
}

// TestNotYetAuthorised: a record is refused until its signer is authorised.
func TestNotYetAuthorised(t *testing.T) {
	m := newMesh(t)
	op3 := newKey(t)
	behind := m.copyOf(m.l)
	vouch := m.operator(m.op, op3)
	r := m.intend(m.l, op3, policy.Allow, "web", "db")
	m.refuses(behind, r, ErrNotAuthorized)
	m.takes(behind, r, vouch)
	m.same(behind, m.l)
}

func TestByzantine(t *testing.T) {
	m := newMesh(t)
	m.grant("n1", "db")
	m.instance(m.n1, "n1", "db", "db")
	body := InstanceBody{Node: "n1", Service: "db", ID: "db", Port: 81}
	inst := Record{Kind: KindInstance, Key: "n1/db"}
	good := m.craft(m.n1, inst, body)
	future := Dot{m.op.ID(), 1 << 40}
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
		{"own dot of the future", m.craft(m.n1, Record{Kind: KindInstance, Key: "n1/db", Supersedes: []Dot{{m.n1.ID(), 99}}}, body), ErrMalformed},
		{"65 superseded", m.craft(m.op, Record{Kind: KindGrant, Key: "n1/db", Supersedes: slices.Repeat([]Dot{{m.op2.ID(), 1}}, 65)}, GrantBody{"n1", "db"}), ErrMalformed},
		{"another node's instance", m.craft(m.n2, inst, body), ErrNotAuthorized},
		{"another node in the body", m.craft(m.n2, Record{Kind: KindInstance, Key: "n2/db"}, body), ErrBody},
		{"another node's record", m.craft(m.n2, Record{Kind: KindNode, Key: "n1"}, NodeBody{Node: "n1", Address: "10.0.0.9", LanePort: 1}), ErrNotAuthorized},
		{"a node grants", m.craft(m.n1, Record{Kind: KindGrant, Key: "n1/bank"}, GrantBody{"n1", "bank"}), ErrNotAuthorized},
		{"a node makes policy", m.craft(m.n1, Record{Kind: KindIntention, Key: "*>*"}, policy.Intention{Source: "*", Destination: "*", Action: policy.Allow}), ErrNotAuthorized},
		{"a node deletes policy", m.craft(m.n1, Record{Kind: KindIntention, Key: "*>*", Delete: true}, nil), ErrNotAuthorized},
		{"unknown kind", m.craft(m.op, Record{Kind: "will", Key: "x"}, body), ErrMalformed},
		{"delete with a body", m.craft(m.op, Record{Kind: KindGrant, Key: "n1/db", Delete: true}, GrantBody{"n1", "db"}), ErrMalformed},
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
		return m.craft(m.n1, Record{Kind: KindNode, Key: "n1", Dot: Dot{Seq: 5}}, NodeBody{Node: "n1", Address: addr, LanePort: 1})
	}
	a, b := node("10.0.0.1"), node("10.0.0.2")
	c := m.craft(m.n1, Record{Kind: KindInstance, Key: "n1/x", Dot: Dot{Seq: 5}}, InstanceBody{Node: "n1", Service: "x", ID: "x"})
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
	grab := m.craft(m.op, Record{Kind: KindIntention, Key: "web>db", Supersedes: []Dot{{m.op2.ID(), 1 << 40}}},
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
			InstanceBody{Node: "n1", Service: "db", ID: id, Tags: tags}))
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

// TestGaps: the ranges of a node that leaves gaps are limited; an operator's are all
// kept.
func TestGaps(t *testing.T) {
	m := newMesh(t)
	gaps := Ranges{}
	for i := range uint64(maxSeenRanges + 10) {
		gaps = append(gaps, Range{2*i + 10, 2*i + 10})
	}
	if err := m.l.Restore(nil, map[identity.KeyID]Ranges{m.n1.ID(): gaps, m.op.ID(): gaps}); err != nil {
		t.Fatal(err)
	}
	m.sign(m.n1, KindNode, "n1", NodeBody{Node: "n1", Address: "::1", LanePort: 1})
	m.intend(m.l, m.op, policy.Deny, "web", "db")
	if n, o := len(m.l.Seen()[m.n1.ID()]), len(m.l.Seen()[m.op.ID()]); n != maxSeenRanges || o != len(gaps) {
		t.Errorf("%d ranges of a node, %d of an operator", n, o)
	}
}

// TestReadsDuringMerge is for the race detector, and checks that no reader sees a
// partial update: a grant without its member.
func TestReadsDuringMerge(t *testing.T) {
	m := newMesh(t)
	history(m)
	l := m.empty()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for batch := range slices.Chunk(m.l.Records(), 2) {
			l.Merge(batch)
		}
		l.Merge(m.l.Records())
	}()
	for merging := true; merging; {
		select {
		case <-done:
			merging = false
		default:
		}
		for _, i := range l.Instances() {
			if _, ok := l.Member(i.Node); !ok || !l.Granted(i.Node, i.Service) {
				t.Errorf("%v without its member or grant", i)
			}
		}
		l.Digest()
		l.Records()
		l.Seen()
		l.Heads(KindIntention, "web>db")
		l.Operators()
	}
	m.same(l, m.l)
}

// TestOtherMesh: a record of a mesh with the same keys and another trust domain is
// refused.
func TestOtherMesh(t *testing.T) {
	m := newMesh(t)
	other := New("other.test", m.root.ID())
	changed, rejected := other.Merge(m.l.Records())
	if len(changed) != 0 || len(rejected) != len(m.l.Records()) {
		t.Errorf("another mesh takes %d records", len(changed))
	}
}

func TestHeadsOf(t *testing.T) {
	id := func(c byte) identity.KeyID { return identity.KeyID{c} }
	at := func(c byte, supersedes ...byte) *entry {
		e := &entry{Record: Record{Dot: Dot{id(c), 1}}}
		for _, s := range supersedes {
			e.Supersedes = append(e.Supersedes, Dot{id(s), 1})
		}
		return e
	}
	for _, c := range []struct {
		name string
		in   []*entry
		want string
	}{
		{"none", nil, ""},
		{"one", []*entry{at('a')}, "a"},
		{"concurrent", []*entry{at('b'), at('a')}, "ab"},
		{"chain", []*entry{at('c', 'b'), at('b', 'a'), at('a')}, "c"},
		{"each other, and a third", []*entry{at('a', 'b', 'c'), at('b', 'a'), at('c')}, "ab"},
		{"circle", []*entry{at('a', 'b'), at('b', 'c'), at('c', 'a')}, "abc"},
	} {
		var got string
		for _, e := range headsOf(c.in) {
			got += string(e.Dot.Signer[:1])
		}
		if got != c.want {
			t.Errorf("%s: heads %q, want %q", c.name, got, c.want)
		}
	}
}

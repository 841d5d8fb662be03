// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
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
	m.sign(m.op, KindAuthority, "n2", statement.Authority{Node: "n2", Certificate: caCert(m, auth2)})
	m.member(auth2, "n3", n3)
	m.grant("n3", "db")
	for range 3 {
		m.instance(n3, "n3", "db", "db")
	}
	m.operator(m.op, op3)
	m.intend(m.l, op3, policy.Deny, "web", "cache")
	m.sign(op3, KindGrant, "n2/db", statement.Grant{Node: "n2", Service: "db"})
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

// TestResolverConflict: of rules that two operators write at once, the same ones
// count on all nodes, a delete wins, and the next rules end the conflict.
func TestResolverConflict(t *testing.T) {
	rules := func(to identity.Name) resolver.Rules {
		return resolver.Rules{Service: "db", Failover: []identity.Name{to}}
	}
	for _, del := range []bool{false, true} {
		m := newMesh(t)
		m.sign(m.op, KindResolver, "db", rules("db1"))
		left, right := m.copyOf(m.l), m.copyOf(m.l)
		a := m.signOn(left, m.op, KindResolver, "db", rules("db2"), false)
		b := m.signOn(right, m.op2, KindResolver, "db", rules("db3"), del)
		m.takes(left, b)
		m.takes(right, a)
		m.same(left, right)
		got := left.Resolvers()
		if !reflect.DeepEqual(got, right.Resolvers()) || (len(got) == 0) != del || len(left.Heads(KindResolver, "db")) != 2 {
			t.Errorf("delete %v: %v and %v", del, got, right.Resolvers())
		}
		m.signOn(left, m.op2, KindResolver, "db", rules("db4"), false)
		if got := left.Resolvers(); len(got) != 1 || !got[0].Equal(rules("db4")) || len(left.Heads(KindResolver, "db")) != 1 {
			t.Errorf("delete %v: not resolved: %v", del, got)
		}
	}
	m := newMesh(t)
	m.sign(m.op, KindResolver, "db", rules("db1"))
	m.revoke(m.root, m.op)
	if got := m.l.Resolvers(); len(got) != 0 {
		t.Errorf("the rules of a revoked operator are in force: %v", got)
	}
}

// TestStale: a superseded record is refused for ever, also after a restart, and by a
// ledger that never saw it.
func TestStale(t *testing.T) {
	m := newMesh(t)
	old := m.intend(m.l, m.op, policy.Allow, "web", "db")
	m.unintend(m.l, m.op, "web", "db")
	m.refuses(m.l, old, ErrStale)
	again := m.empty()
	if err := again.Restore(m.l.Records(), m.l.Last()); err != nil {
		t.Fatal(err)
	}
	m.refuses(again, old, ErrStale)
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
		l.Last()
		l.Heads(KindIntention, "web>db")
		l.Operators()
	}
	m.same(l, m.l)
}

// TestScreen: what a merge checks without the lock of writers, so that a flood delays
// no change: all of it but what other records of the batch may authorise.
func TestScreen(t *testing.T) {
	m := newMesh(t)
	held := m.intend(m.l, m.op, policy.Deny, "web", "db")
	late := newKey(t)
	forged := m.craft(m.op, Record{Kind: KindIntention, Key: "a>b"}, policy.Intention{Source: "a", Destination: "b", Action: policy.Allow})
	forged.Signature = held.Signature
	sound := m.craft(m.op, Record{Kind: KindIntention, Key: "a>c"}, policy.Intention{Source: "a", Destination: "c", Action: policy.Allow})
	unknown := m.craft(late, Record{Kind: KindIntention, Key: "a>d"}, policy.Intention{Source: "a", Destination: "d", Action: policy.Allow})
	malformed := sound
	malformed.Key = ""

	m.l.merging.Lock() // as during a merge by somebody else
	pending, rejected := m.l.screen([]Record{held, forged, sound, unknown, malformed})
	m.l.merging.Unlock()
	var got []string
	for _, e := range pending {
		got = append(got, fmt.Sprint(e.Key, " ", e.verified))
	}
	for _, r := range rejected {
		got = append(got, fmt.Sprint(r.Record.Key, " ", errors.Is(r.Err, ErrSignature), errors.Is(r.Err, ErrMalformed)))
	}
	if want := []string{"a>c true", "a>d false", " false true", "a>b true false"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	again := held
	again.Body = forged.Body
	if left := m.l.withoutHeld([]Record{held, again}); len(left) != 1 {
		t.Errorf("%d of 2 records are left", len(left))
	}
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

// SPDX-License-Identifier: Apache-2.0

package records

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// signed is a revision of a node, by a key.
func signedRevision(t *testing.T, node identity.Name, key *identity.Key, digest string, at Stamp) Revision {
	t.Helper()
	rev := Revision{Digest: digest, Stamp: at}
	if err := rev.sign(node, key); err != nil {
		t.Fatal(err)
	}
	return rev
}

// tells has somebody say what a node has announced.
func (f *fixture) tells(t *testing.T, node identity.Name, rev Revision) {
	t.Helper()
	payload, err := json.Marshal(message{Revisions: map[identity.Name]Revision{node: rev}})
	if err != nil {
		t.Fatal(err)
	}
	f.Merge("host9", payload)
}

// TestAnnounce: what is new is announced, once, with a signature that verifies and a
// counter that grows.
func TestAnnounce(t *testing.T) {
	f := newFixture(t, "host1", newKey(t))
	f.admits(t, "host1", f.key)
	sent := len(f.sent)
	for i, step := range []struct {
		digest, names string
		counter       uint64
	}{{"a", "x", 1}, {"a", "x", 1}, {"a", "y", 2}, {"b", "y", 3}, {"", "y", 4}, {"b", "y", 5}} {
		f.Announce(step.digest, step.names)
		rev := f.Revisions()["host1"]
		if rev.Digest != step.digest || rev.Names != step.names || rev.Counter != step.counter || rev.Epoch == 0 || len(f.sent)-sent != int(step.counter) {
			t.Errorf("step %d: %+v after %d messages", i, rev, len(f.sent)-sent)
		}
		if err := identity.VerifySignature(f.key.Public(), signContext, rev.message("host1"), rev.Signature); err != nil {
			t.Error(err)
		}
	}
}

// TestWaitCanLie: a revision counts, and is passed on, only if its node has signed
// it and it is newer than the last one. Whatever else comes is dropped and counted.
func TestWaitCanLie(t *testing.T) {
	f := newFixture(t, "host1", newKey(t))
	key, other := f.addMember(t, "host2"), f.addMember(t, "host3")
	altered := signedRevision(t, "host2", key, "b", Stamp{1, 7})
	altered.Digest = "forged"
	long := signedRevision(t, "host2", key, strings.Repeat("x", maxRevision), Stamp{9, 9})
	for _, c := range []struct {
		name    string
		node    identity.Name
		rev     Revision
		digest  string
		dropped Dropped
	}{
		{"the first", "host2", signedRevision(t, "host2", key, "a", Stamp{1, 5}), "a", Dropped{}},
		{"the next", "host2", signedRevision(t, "host2", key, "b", Stamp{1, 6}), "b", Dropped{}},
		{"the same again", "host2", signedRevision(t, "host2", key, "b", Stamp{1, 6}), "b", Dropped{}},
		{"an older one", "host2", signedRevision(t, "host2", key, "late", Stamp{1, 5}), "b", Dropped{Replayed: 1}},
		{"unsigned", "host2", Revision{Digest: "forged", Stamp: Stamp{1, 7}}, "b", Dropped{Forged: 1}},
		{"changed after it was signed", "host2", altered, "b", Dropped{Forged: 1}},
		{"by another member", "host2", signedRevision(t, "host2", other, "forged", Stamp{1, 7}), "b", Dropped{Forged: 1}},
		{"another member's", "host2", signedRevision(t, "host3", other, "forged", Stamp{1, 7}), "b", Dropped{Forged: 1}},
		{"its own in another name", "host3", signedRevision(t, "host2", key, "forged", Stamp{1, 7}), "", Dropped{Forged: 1}},
		{"too long", "host2", long, "b", Dropped{Forged: 1}},
		{"after a start", "host2", signedRevision(t, "host2", key, "again", Stamp{2, 1}), "again", Dropped{}},
		{"from before the start", "host2", signedRevision(t, "host2", key, "before", Stamp{1, 9}), "again", Dropped{Replayed: 1}},
		{"a stranger", "stranger", signedRevision(t, "stranger", key, "x", Stamp{1, 1}), "", Dropped{}},
	} {
		sent, dropped, old := len(f.sent), f.Dropped(), f.Revisions()[c.node].Digest
		f.tells(t, c.node, c.rev)
		if got := f.Revisions()[c.node].Digest; got != c.digest {
			t.Errorf("%s: digest %q, want %q", c.name, got, c.digest)
		}
		if passedOn := len(f.sent) > sent; passedOn != (old != c.digest) {
			t.Errorf("%s: passed on is %v", c.name, passedOn)
		}
		now := f.Dropped()
		if got := (Dropped{now.Forged - dropped.Forged, now.Replayed - dropped.Replayed, now.Excess - dropped.Excess}); got != c.dropped {
			t.Errorf("%s: dropped %+v, want %+v", c.name, got, c.dropped)
		}
	}
}

// TestRevisionOfAnEarlierKey: what a member of that name said before it was revoked
// and entered anew doesn't count, and what it says now does, whatever its counter.
func TestRevisionOfAnEarlierKey(t *testing.T) {
	f := newFixture(t, "host1", newKey(t))
	operator, key := f.makeOperator(t), f.addMember(t, "host2")
	f.tells(t, "host2", signedRevision(t, "host2", key, "old", Stamp{100, 1}))
	if err := f.Sign(operator, Change{Kind: ledger.KindRevocation, Key: key.ID().String(), Body: statement.Revocation{Public: key.ID(), Node: "host2"}}); err != nil {
		t.Fatal(err)
	}
	if rev, there := f.Revisions()["host2"]; there {
		t.Errorf("a revoked node has %+v in force", rev)
	}
	key = f.addMember(t, "host2")
	if rev, there := f.Revisions()["host2"]; there {
		t.Errorf("a node that has said nothing has %+v in force", rev)
	}
	f.tells(t, "host2", signedRevision(t, "host2", key, "new", Stamp{1, 1}))
	if rev := f.Revisions()["host2"]; rev.Digest != "new" {
		t.Errorf("it has %+v in force", rev)
	}
}

// TestSetBackRevision: a node that learns of a later revision of its own announces
// what it has in force with a later one still. Without its signature, it does not.
func TestSetBackRevision(t *testing.T) {
	f := newFixture(t, "host1", newKey(t))
	f.admits(t, "host1", f.key)
	f.Announce("now", "")
	before := f.Revisions()["host1"]
	f.tells(t, "host1", Revision{Digest: "forged", Stamp: Stamp{1 << 60, 1}})
	if got := f.Revisions()["host1"]; got.Stamp != before.Stamp {
		t.Errorf("a forged revision changed it to %+v", got)
	}
	later := Stamp{before.Epoch + 5, 3}
	f.tells(t, "host1", signedRevision(t, "host1", f.key, "then", later))
	if got := f.Revisions()["host1"]; got.Digest != "now" || got.compare(later) <= 0 || len(f.sent[len(f.sent)-1].Revisions) != 1 {
		t.Errorf("it has %+v in force after %+v", got, later)
	}
	sent := len(f.sent)
	f.tells(t, "host1", signedRevision(t, "host1", f.key, "copy", Stamp{later.Epoch + 9, 1}))
	if len(f.sent) != sent {
		t.Error("a copy of this node is overtaken at once, and would do the same")
	}
}

// TestChecksOfSignaturesAreLimited: a flood of forged revisions costs so many checks
// a second, and other members' revisions are heard meanwhile.
func TestChecksOfSignaturesAreLimited(t *testing.T) {
	var m meter
	now := time.Unix(1000, 0)
	took := 0
	for range 100_000 {
		if m.allow("host2", now) {
			took++
		}
	}
	if took != checksOfNode || !m.allow("host3", now) || !m.allow("host2", now.Add(time.Second)) {
		t.Errorf("%d checks of one node in a second", took)
	}
	for i := range 100_000 {
		if m.allow(identity.Name(fmt.Sprint("node", i)), now.Add(2*time.Second)) {
			took++
		}
	}
	if took != checksOfNode+checksInAll {
		t.Errorf("%d checks of all nodes in a second", took-checksOfNode)
	}
}

// TestForgedClaims: of 10,000 claims that a member can make about
// three members, none is believed: neither made up, nor altered, nor replayed, nor
// another member's.
func TestForgedClaims(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	f := newFixture(t, "host1", newKey(t))
	nodes := []identity.Name{"host2", "host3", "host4"}
	keys, truth := map[identity.Name]*identity.Key{}, map[identity.Name]Revision{}
	var overheard []Revision
	for _, node := range nodes {
		keys[node] = f.addMember(t, node)
	}
	mine := f.addMember(t, "attacker")
	for i := range 10_000 {
		f.peers.meter = meter{}
		node := nodes[r.IntN(len(nodes))]
		if r.IntN(20) == 0 { // the node itself says something
			at := Stamp{truth[node].Epoch + uint64(r.IntN(2)), truth[node].Counter + 1}
			truth[node] = signedRevision(t, node, keys[node], fmt.Sprint("d", i), at)
			overheard = append(overheard, truth[node])
			f.tells(t, node, truth[node])
		}
		rev := Revision{Digest: "wanted", Stamp: Stamp{r.Uint64(), r.Uint64()}, Signature: []byte{1, 2, 3}}
		if len(overheard) > 0 && r.IntN(2) == 0 {
			rev = overheard[r.IntN(len(overheard))]
		}
		switch r.IntN(4) {
		case 0:
			rev.Digest, rev.Counter = "wanted", rev.Counter+uint64(r.IntN(3))
		case 1:
			rev.Stamp = Stamp{truth[node].Epoch + 1, 1}
		case 2:
			if r.IntN(20) == 0 { // a signature costs time
				rev = signedRevision(t, node, mine, "wanted", Stamp{truth[node].Epoch, truth[node].Counter + 1})
			}
		}
		f.tells(t, node, rev)
		if got := f.Revisions()[node]; got.Digest != truth[node].Digest || got.Stamp != truth[node].Stamp {
			t.Fatalf("claim %d about %s: %+v is believed, it said %+v", i, node, got, truth[node])
		}
	}
	t.Logf("dropped %+v", f.Dropped())
}

// SPDX-License-Identifier: Apache-2.0

package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/health"
	"tacit/policy"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// disk is a store that can be full.
type disk struct {
	full     bool
	saved    []ledger.Record
	kept     map[string]ledger.Record // by ID, without what was dropped
	settings map[string][]byte
}

var errFull = errors.New("no space left on device")

func (d *disk) SaveRecords(recs []ledger.Record, _ map[identity.KeyID]uint64, dropped []string) error {
	if d.full {
		return errFull
	}
	d.saved = append(d.saved, recs...)
	if d.kept == nil {
		d.kept = map[string]ledger.Record{}
	}
	for _, r := range recs {
		d.kept[r.ID()] = r
	}
	for _, id := range dropped {
		delete(d.kept, id)
	}
	return nil
}

func (d *disk) Get(name string) ([]byte, error) { return d.settings[name], nil }

func (d *disk) Set(name string, value []byte) error {
	if d.full {
		return errFull
	}
	d.settings[name] = value
	return nil
}

// fixture is one node whose root key is also its operator.
type fixture struct {
	*Records
	disk    *disk
	board   *health.Board
	root    *identity.Key
	key     *identity.Key // this node's
	changes int
	sent    []message
}

func newFixture(t *testing.T, self identity.Name, root *identity.Key) *fixture {
	t.Helper()
	f := &fixture{disk: &disk{settings: map[string][]byte{}}, board: health.NewBoard(), root: root, key: newKey(t)}
	var err error
	f.Records, err = New(Config{Self: self, Key: f.key, Ledger: ledger.New("tacit.local", root.ID()), Store: f.disk, Health: f.board,
		Log: slog.New(slog.DiscardHandler), Changed: func() { f.changes++ }})
	if err != nil {
		t.Fatal(err)
	}
	f.Connect(func(payload []byte) {
		var m message
		if err := json.Unmarshal(payload, &m); err != nil {
			t.Error(err)
		}
		f.sent = append(f.sent, m)
	})
	return f
}

func newKey(t *testing.T) *identity.Key {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (f *fixture) makeOperator(t *testing.T) *identity.Key {
	t.Helper()
	operator := newKey(t)
	body := statement.Operator{Node: "host1", Public: operator.Public()}
	if err := f.Sign(f.root, Change{Kind: ledger.KindOperator, Key: operator.ID().String(), Body: body}); err != nil {
		t.Fatal(err)
	}
	return operator
}

func allow(src, dst identity.Name) Change {
	return Change{Kind: ledger.KindIntention, Key: string(src) + ">" + string(dst),
		Body: policy.Intention{Source: src, Destination: dst, Action: policy.Allow}}
}

// TestSign: a record is on disk before it is in force and sent; one that can't
// be kept was never made.
func TestSign(t *testing.T) {
	f := newFixture(t, "host1", newKey(t))
	operator := f.makeOperator(t)
	if err := f.Sign(operator, allow("web", "db")); err != nil {
		t.Fatal(err)
	}
	if len(f.disk.saved) != 2 || len(f.sent) != 2 || f.changes != 2 || len(f.View().Intentions()) != 1 {
		t.Errorf("saved %d, sent %d, changes %d, intentions %v", len(f.disk.saved), len(f.sent), f.changes, f.View().Intentions())
	}
	f.disk.full = true
	err := f.Sign(operator, allow("web", "cache"))
	if !errors.Is(err, errFull) || !strings.Contains(err.Error(), "was not made") {
		t.Errorf("with a full disk: %v", err)
	}
	if len(f.View().Intentions()) != 1 || len(f.sent) != 2 {
		t.Error("a record that can't be kept is in force or was sent")
	}
	f.disk.full = false
	if err := f.Sign(operator, Change{Kind: ledger.KindIntention, Key: "web>db", Delete: true}); err != nil {
		t.Fatal(err)
	}
	if left := f.View().Intentions(); len(left) != 0 {
		t.Errorf("deleted, and still there: %v", left)
	}
	if err := f.Sign(newKey(t), allow("a", "b")); !errors.Is(err, ledger.ErrNotAuthorized) {
		t.Errorf("a stranger's signature: %v", err)
	}
}

// TestSignAll: all records are made or none. They are one write to disk, one
// message as long as gossip carries it, and one nudge.
func TestSignAll(t *testing.T) {
	f := newFixture(t, "host1", newKey(t))
	operator := f.makeOperator(t)
	sent, nudges := len(f.sent), f.changes
	var many []Change
	for i := range 100 {
		many = append(many, allow("web", identity.Name(fmt.Sprintf("db-%d", i))))
	}
	bad := append(slices.Clone(many), Change{Kind: ledger.KindIntention, Key: "web>db", Body: "no intention"})
	if err := f.SignAll(operator, bad); !errors.Is(err, ledger.ErrBody) || !strings.Contains(err.Error(), "web>db") {
		t.Errorf("one of them is bad: %v", err)
	}
	f.disk.full = true
	if err := f.SignAll(operator, many); !errors.Is(err, errFull) {
		t.Errorf("with a full disk: %v", err)
	}
	if f.disk.full = false; len(f.View().Intentions()) != 0 || len(f.sent) != sent {
		t.Error("some of them were made")
	}
	if err := f.SignAll(operator, many); err != nil {
		t.Fatal(err)
	}
	if len(f.View().Intentions()) != 100 || len(f.sent) != sent+1 || f.changes != nudges+1 {
		t.Errorf("%d intentions, %d messages, %d nudges", len(f.View().Intentions()), len(f.sent)-sent, f.changes-nudges)
	}
}

// TestBatches: no part is longer than gossip carries, and none is lost.
func TestBatches(t *testing.T) {
	var recs []ledger.Record
	for i := range 1000 {
		recs = append(recs, ledger.Record{Kind: ledger.KindInstance, Key: fmt.Sprint(i), Body: []byte(`"` + strings.Repeat("x", 16<<10-2) + `"`),
			Supersedes: make([]ledger.Dot, i%64), Signer: make([]byte, 91), Signature: make([]byte, 71)})
	}
	parts, next := 0, 0
	for batch := range batches(recs) {
		text, err := json.Marshal(message{Records: batch})
		if err != nil || len(text) > maxMessage+100 {
			t.Errorf("part %d: %d bytes, %v", parts, len(text), err)
		}
		for _, r := range batch {
			if r.Key != fmt.Sprint(next) {
				t.Fatalf("record %s follows %d", r.Key, next-1)
			}
			next++
		}
		parts++
	}
	if next != len(recs) || parts < 3 || parts > 5 {
		t.Errorf("%d records in %d parts", next, parts)
	}
}

// TestPrepare: a prepared record is in force nowhere, and its number is written
// down before anybody sees it.
func TestPrepare(t *testing.T) {
	f := newFixture(t, "host1", newKey(t))
	operator := f.makeOperator(t)
	var reserved ledger.Dot
	rec, err := f.Prepare(operator, allow("web", "db"), func(d ledger.Dot) error { reserved = d; return nil })
	if err != nil || reserved != rec.Dot || len(f.View().Intentions()) != 0 {
		t.Errorf("%v, reserved %v of %v, in force %v", err, reserved, rec.Dot, f.View().Intentions())
	}
	if _, err := f.Prepare(operator, allow("web", "db"), func(ledger.Dot) error { return errFull }); !errors.Is(err, errFull) {
		t.Errorf("a number that can't be reserved: %v", err)
	}
}

// TestTake: records of others are in force at once, passed on once, and kept
// when the disk has room again; status reports the full disk.
func TestTake(t *testing.T) {
	root := newKey(t)
	one, two := newFixture(t, "host1", root), newFixture(t, "host2", root)
	operator := one.makeOperator(t)
	if err := one.Sign(operator, allow("web", "db")); err != nil {
		t.Fatal(err)
	}
	two.disk.full = true
	two.Merge("host1", one.State())
	if len(two.View().Intentions()) != 1 || two.board.Get(health.State, "") == nil || len(two.disk.saved) != 0 {
		t.Errorf("with a full disk: intentions %v, problem %v", two.View().Intentions(), two.board.Get(health.State, ""))
	}
	sent := len(two.sent)
	two.Merge("host1", one.State())
	if sent != 1 || len(two.sent) != sent {
		t.Errorf("passed on %d times, then %d", sent, len(two.sent))
	}
	two.disk.full = false
	two.SaveAgain()
	if len(two.disk.saved) != 2 || two.board.Get(health.State, "") != nil {
		t.Errorf("saved %d records, problem %v", len(two.disk.saved), two.board.Get(health.State, ""))
	}
	two.Merge("host1", []byte("{"))
	two.Take([]ledger.Record{{Kind: ledger.KindIntention, Key: "x>y"}})
	if len(two.View().Intentions()) != 1 {
		t.Error("a damaged record is in force")
	}
}

// TestBeforeConnect: what is made before gossip begins is sent when it does.
func TestBeforeConnect(t *testing.T) {
	root := newKey(t)
	r, err := New(Config{Self: "host1", Key: newKey(t), Ledger: ledger.New("tacit.local", root.ID()), Store: &disk{settings: map[string][]byte{}},
		Health: health.NewBoard(), Log: slog.New(slog.DiscardHandler), Changed: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	r.Announce("d1", "")
	var got []string
	r.Connect(func(payload []byte) { got = append(got, string(payload)) })
	r.Announce("d2", "")
	if len(got) != 2 || !strings.Contains(got[0], "d1") || !strings.Contains(got[1], "d2") {
		t.Errorf("sent %q", got)
	}
}

// addMember makes name a member with the authority's key.
func (f *fixture) addMember(t *testing.T, name identity.Name) *identity.Key {
	t.Helper()
	key := newKey(t)
	f.admits(t, name, key)
	return key
}

func (f *fixture) admits(t *testing.T, name identity.Name, key *identity.Key) {
	t.Helper()
	a, err := identity.CreateAuthority("tacit.local", name, t.TempDir(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		by *identity.Key
		Change
	}{
		{f.root, Change{Kind: ledger.KindAuthority, Key: string(name), Body: statement.Authority{Node: name, Certificate: a.Intermediate().Raw}}},
		{a.Key(), Change{Kind: ledger.KindMember, Key: string(name), Body: statement.Member{Node: name, Public: key.Public()}}},
	} {
		if err := f.Sign(c.by, c.Change); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAdmit: what others tell lets nobody speak for a node.
func TestAdmit(t *testing.T) {
	f := newFixture(t, "host1", newKey(t))
	key := f.addMember(t, "host2")
	operator := f.makeOperator(t)
	at := netip.MustParseAddrPort("10.0.0.2:7946")
	admit := func(want string) {
		t.Helper()
		err := f.Admit("host2", at)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := f.Admit("stranger", at); err == nil {
		t.Error("a stranger is admitted")
	}
	admit("") // its own record may be on its way
	body := statement.Node{Node: "host2", Address: "10.0.0.3", LanePort: 7947, GossipPort: 7946}
	if err := f.Sign(key, Change{Kind: ledger.KindNode, Key: "host2", Body: body}); err != nil {
		t.Fatal(err)
	}
	admit("is at 10.0.0.3 according to its record")
	at = netip.MustParseAddrPort("[::ffff:10.0.0.3]:7946")
	admit("")
	if err := f.Sign(operator, Change{Kind: ledger.KindRevocation, Key: key.ID().String(), Body: statement.Revocation{Public: key.ID(), Node: "host2"}}); err != nil {
		t.Fatal(err)
	}
	if err := f.Admit("host2", at); err == nil {
		t.Error("a revoked node is admitted")
	}
}

// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/health"
	"tacit/policy"
	"tacit/policy/ledger/statement"
)

// TestTamperedIsWithdrawn: what others have changed is announced as not in force,
// then put right, then announced again; a policy that can't be written stays
// withdrawn, and status says why.
func TestTamperedIsWithdrawn(t *testing.T) {
	h := &host{}
	l, board := newLoop(h)
	l.Settle()
	want := l.Digest()
	for _, step := range []struct {
		name      string
		failing   error
		announced []string
		inForce   string
	}{
		{"put right", nil, []string{"", want}, want},
		{"can't be put right", errors.New("frozen"), []string{"", ""}, ""},
		{"put right at last", nil, []string{"", want}, want},
	} {
		h.failing = step.failing
		before, applied := len(h.announced), h.applied
		l.Tampered("map intentions")
		l.Settle()
		if got := h.announced[before:]; !slices.Equal(got, step.announced) || h.applied == applied {
			t.Errorf("%s: announced %q, want %q", step.name, got, step.announced)
		}
		if problem := board.Get(health.Revision, ""); l.InForce() != step.inForce || (problem != nil) != (step.inForce == "") {
			t.Errorf("%s: in force %q, problem %v", step.name, l.InForce(), problem)
		}
	}
	if l.Digest() != want {
		t.Errorf("wanted is %s, not %s", l.Digest(), want)
	}
}

// TestAnotherPolicyInTheMaps: a digest of the maps that isn't the records' is
// announced as it is, and a problem.
func TestAnotherPolicyInTheMaps(t *testing.T) {
	h := &host{}
	l, board := newLoop(h)
	h.other = policy.NewTable(policy.Allow, nil)
	l.Settle()
	if l.InForce() == "" || l.InForce() == l.Digest() || h.announced[0] != l.InForce() || board.Get(health.Revision, "") == nil {
		t.Errorf("in force %q, announced %q, problem %v", l.InForce(), h.announced, board.Get(health.Revision, ""))
	}
}

// TestDigestTellsChangesApart: a policy that is in force again, by other records, has
// another digest: who said before that it is in force hasn't said so now.
func TestDigestTellsChangesApart(t *testing.T) {
	h := &host{}
	l, _ := newLoop(h)
	seen := map[string]bool{}
	for range 3 { // a rule and back
		for _, rules := range [][]policy.Intention{nil, {{Source: "web", Destination: "db", Action: policy.Allow}}} {
			h.intentions = rules
			h.digest++
			l.Nudge()
			l.Settle()
			if l.InForce() != l.Digest() || seen[l.Digest()] {
				t.Errorf("in force %s, wanted %s, seen before: %v", l.InForce(), l.Digest(), seen)
			}
			seen[l.Digest()] = true
		}
	}
}

// TestAbsent: since when members don't answer is kept until they do.
func TestAbsent(t *testing.T) {
	var a absent
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	for _, step := range []struct {
		now  int
		up   map[identity.Name]bool
		want map[identity.Name]int
	}{
		{1, map[identity.Name]bool{"a": true, "b": true}, nil},
		{2, map[identity.Name]bool{"a": false, "b": true}, map[identity.Name]int{"a": 2}},
		{3, map[identity.Name]bool{"a": false, "b": false}, map[identity.Name]int{"a": 2, "b": 3}},
		{4, map[identity.Name]bool{"b": true}, map[identity.Name]int{"a": 2}},
		{5, map[identity.Name]bool{"a": true, "b": true}, nil},
		{6, map[identity.Name]bool{"a": false, "b": true}, map[identity.Name]int{"a": 6}},
	} {
		a.note(step.up, at(step.now))
		for _, name := range []identity.Name{"a", "b"} {
			since, gone := a.since[name]
			if s, want := step.want[name]; gone != want || gone && since != at(s) {
				t.Errorf("at %d: %s is absent since %v", step.now, name, since)
			}
		}
	}
}

// elsewhere is a host whose records are all another node's.
type elsewhere struct{ *host }

func (elsewhere) Published(identity.Name) []statement.Instance { return nil }

// TestOverflowStopsNoRevision: what a member announces beyond its share is in no map
// and no answer, its name is known, and the policy is announced as in force.
func TestOverflowStopsNoRevision(t *testing.T) {
	h := &host{}
	l, _ := newLoopOf(h, elsewhere{h})
	for i := range 70 {
		in := on("host2", "db", uint16(5000+i))
		in.ID = fmt.Sprintf("db-%02d", i)
		h.mesh = append(h.mesh, in)
	}
	h.digest++
	h.up = map[identity.Name]bool{"host2": true}
	l.Settle()
	if got := len(l.Catalog().Instances("db")); got != 64 || len(h.state.Endpoints) != 64 {
		t.Errorf("%d instances are known, and %d ports are in the map", got, len(h.state.Endpoints))
	}
	if e := l.Excess(); len(e) != 1 || e[0].String() != "host2 announces 70 instances of db; 64 are used" {
		t.Errorf("excess %v", e)
	}
	if last := h.announced[len(h.announced)-1]; last == "" || last != l.Digest() {
		t.Errorf("announced %q", h.announced)
	}
}

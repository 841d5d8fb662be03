// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"maps"
	"strconv"

	"tacit/policy"
)

// nothingLost compares the intentions with what was signed: of the records of a
// cell, those count that no other's signer has known.
func (s *sim) nothingLost() {
	l := s.hosts[0].l
	want := map[string]policy.Action{}
	for i, r := range s.made {
		if r.Kind != KindIntention || !l.IsOperator(r.Dot.Signer) || s.superseded(l, i) {
			continue
		}
		action := policy.Action(0)
		if e, err := l.open(r); err == nil && !r.Delete {
			action = e.body.(policy.Intention).Action
		}
		if old, also := want[r.Key]; !also || action == policy.Deny || old == policy.Allow {
			want[r.Key] = action
		}
	}
	for _, i := range l.Intentions() {
		if want[i.Key()] != i.Action {
			s.Fatalf("%s is %s, want %s", i.Key(), i.Action, want[i.Key()])
		}
		delete(want, i.Key())
	}
	for key, action := range want {
		if action != 0 {
			s.Fatalf("%s is lost: %s", key, action)
		}
	}
}

func (s *sim) superseded(l *Ledger, i int) bool {
	for j, by := range s.made {
		if s.saw[j][i] && by.Kind == s.made[i].Kind && by.Key == s.made[i].Key && l.IsOperator(by.Dot.Signer) {
			return true
		}
	}
	return false
}

// whatRuns has every host sign what differs from its programs, as
// reconcile.Publisher does, and looks for that on all others.
func (s *sim) whatRuns() {
	for _, h := range s.hosts {
		for id := range 3 {
			s.publish(h, strconv.Itoa(id))
		}
	}
	s.heal()
	s.agree("after publishing again")
	for _, h := range s.hosts {
		got := map[string]int{}
		for _, i := range s.hosts[1].l.Published(h.name) {
			got[i.ID] = int(i.Port)
		}
		if h.name != "n4" && !maps.Equal(got, h.runs) { // n4's key is revoked
			s.Fatalf("of %s is published %v, and runs %v", h.name, got, h.runs)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"slices"
	"testing"
)

// ended is the rule that the states stand for, in terms of what was sent and
// received: a stream is over when FIN, or RESET, has gone both ways.
type ended struct{ finSent, finGot, resetSent, resetGot, refused bool }

func (r ended) over() bool {
	return r.finSent && r.finGot || r.resetSent && r.resetGot || r.refused
}

// wants says what an event calls for by the rule, and takes it in.
func (r *ended) wants(e endEvent) endAction {
	quiet := r.resetSent || r.resetGot || r.refused
	switch e {
	case gotData:
		switch {
		case r.finGot:
			return doBreach
		case quiet:
			return doNothing
		}
		return doDeliver
	case gotFin:
		if r.finGot {
			return doBreach
		}
		r.finGot = true
		if r.resetSent && !r.finSent {
			return doNothing // the answer to RESET is to come
		}
		return doEnd
	case gotReset:
		r.resetGot = true
		return doFail
	case sendFin:
		if quiet {
			return doNothing
		}
		r.finSent = true
		return doSend
	case sendReset:
		if quiet || r.over() {
			return doNothing
		}
		r.resetSent = true
		return doSend
	case refuseStream:
		r.refused = true
		return doSend
	}
	switch { // letGo
	case r.over():
		return doNothing
	case r.resetGot:
		r.resetSent = true
		return doSend
	}
	return doAbort
}

// possible says whether an event can come after others: nothing is read after
// RESET or a breach, the program's end comes once, only a stream of which
// nothing was read is refused, and nothing comes after it was let go of.
func possible(before []endEvent, actions []endAction, e endEvent) bool {
	switch {
	case slices.Contains(before, letGo):
		return false
	case slices.Contains(before, refuseStream):
		return e == letGo
	case e == gotData, e == gotFin, e == gotReset:
		return !slices.Contains(actions, doFail) && !slices.Contains(actions, doBreach)
	case e == sendFin:
		return !slices.Contains(before, sendFin)
	case e == refuseStream:
		return len(before) == 0
	}
	return true
}

// TestEveryOrder: in every possible order of up to seven events, the table does
// what the rule says, and at most one FIN and one RESET are sent, FIN first.
func TestEveryOrder(t *testing.T) {
	orders := 0
	var follow func(state endState, rule ended, events []endEvent, actions []endAction)
	follow = func(state endState, rule ended, events []endEvent, actions []endAction) {
		orders++
		if len(events) == 7 {
			return
		}
		for e := range endEvents {
			if !possible(events, actions, e) {
				continue
			}
			s, r := state, rule
			got, want := s.on(e), r.wants(e)
			es, as := append(events[:len(events):len(events)], e), append(actions[:len(actions):len(actions)], got)
			if got != want || (s == stateClosed) != r.over() {
				t.Fatalf("after %v: action %d, want %d; state %d, over: %v", es, got, want, s, r.over())
			}
			checkSent(t, es, as)
			follow(s, r, es, as)
		}
	}
	follow(stateOpen, ended{}, nil, nil)
	t.Logf("%d orders", orders)
}

func checkSent(t *testing.T, events []endEvent, actions []endAction) {
	t.Helper()
	var fins, resets int
	for i, e := range events {
		switch {
		case actions[i] != doSend:
		case e == sendFin:
			fins++
			if resets > 0 {
				t.Fatalf("FIN after RESET: %v", events)
			}
		default:
			resets++
		}
	}
	if fins > 1 || resets > 1 {
		t.Fatalf("%d FIN and %d RESET sent: %v", fins, resets, events)
	}
}

// twoEnds are both ends of a stream and the frames between them: b for DATA,
// F and R, the oldest first.
type twoEnds struct {
	state   [2]endState
	gone    [2]bool   // let go of
	deaf    [2]bool   // got RESET, reads no more
	inbound [2]string // frames on their way to this end
}

// TestBothEnds: two ends that follow the table, in every order in which they can
// send, read and let go with up to three frames on their way, never see a breach
// of the protocol, and can always come to an end without aborting the lane.
func TestBothEnds(t *testing.T) {
	next := map[twoEnds][]twoEnds{}
	var explore func(twoEnds)
	explore = func(w twoEnds) {
		if _, known := next[w]; known {
			return
		}
		next[w] = w.steps(t)
		for _, n := range next[w] {
			explore(n)
		}
	}
	explore(twoEnds{})
	ends := map[twoEnds]bool{}
	for changed := true; changed; {
		changed = false
		for w, ns := range next {
			ok := w.gone == [2]bool{true, true} || slices.ContainsFunc(ns, func(n twoEnds) bool { return ends[n] })
			changed = changed || ok && !ends[w]
			ends[w] = ends[w] || ok
		}
	}
	for w := range next {
		if !ends[w] {
			t.Errorf("no way to end from %+v", w)
		}
	}
	t.Logf("%d situations", len(next))
}

// steps are the situations that can come next.
func (w twoEnds) steps(t *testing.T) (out []twoEnds) {
	for i := range 2 {
		if w.gone[i] {
			continue
		}
		room := len(w.inbound[1-i]) < 3
		if room && (w.state[i] == stateOpen || w.state[i] == stateFinGot) {
			n := w
			n.inbound[1-i] += "b"
			out = append(out, n)
		}
		for _, e := range []endEvent{sendFin, sendReset, letGo} {
			n := w
			do := n.state[i].on(e)
			switch {
			case do == doAbort, do == doSend && !room, do == doNothing && e != letGo:
				continue
			case do == doSend && e == sendFin:
				n.inbound[1-i] += "F"
			case do == doSend:
				n.inbound[1-i] += "R"
			}
			n.gone[i] = e == letGo
			out = append(out, n)
		}
		if n := w; len(w.inbound[i]) > 0 && !w.deaf[i] {
			e := map[byte]endEvent{'b': gotData, 'F': gotFin, 'R': gotReset}[w.inbound[i][0]]
			n.inbound[i] = w.inbound[i][1:]
			do := n.state[i].on(e)
			if do == doBreach {
				t.Errorf("an honest frame breaks the protocol: %+v", w)
			}
			n.deaf[i] = do == doFail
			out = append(out, n)
		}
	}
	return out
}

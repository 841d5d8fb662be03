// SPDX-License-Identifier: Apache-2.0

package ending

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
func (r *ended) wants(e Event) Action {
	quiet := r.resetSent || r.resetGot || r.refused
	switch e {
	case GotData:
		switch {
		case r.finGot:
			return DoBreach
		case quiet:
			return DoNothing
		}
		return DoDeliver
	case GotFin:
		if r.finGot {
			return DoBreach
		}
		r.finGot = true
		if r.resetSent && !r.finSent {
			return DoNothing // the answer to RESET is to come
		}
		return DoEnd
	case GotReset:
		r.resetGot = true
		return DoFail
	case SendFin:
		if quiet {
			return DoNothing
		}
		r.finSent = true
		return DoSend
	case SendReset:
		if quiet || r.over() {
			return DoNothing
		}
		r.resetSent = true
		return DoSend
	case RefuseStream:
		r.refused = true
		return DoSend
	}
	switch { // LetGo
	case r.over():
		return DoNothing
	case r.resetGot:
		r.resetSent = true
		return DoSend
	}
	return DoAbort
}

// possible says whether an event can come after others: nothing is read after
// RESET or a breach, the program's end comes once, only a stream of which
// nothing was read is refused, and nothing comes after it was let go of.
func possible(before []Event, actions []Action, e Event) bool {
	switch {
	case slices.Contains(before, LetGo):
		return false
	case slices.Contains(before, RefuseStream):
		return e == LetGo
	case e == GotData, e == GotFin, e == GotReset:
		return !slices.Contains(actions, DoFail) && !slices.Contains(actions, DoBreach)
	case e == SendFin:
		return !slices.Contains(before, SendFin)
	case e == RefuseStream:
		return len(before) == 0
	}
	return true
}

// TestEveryOrder: in every possible order of up to seven events, the table does
// what the rule says, and at most one FIN and one RESET are sent, FIN first.
func TestEveryOrder(t *testing.T) {
	orders := 0
	var follow func(state State, rule ended, events []Event, actions []Action)
	follow = func(state State, rule ended, events []Event, actions []Action) {
		orders++
		if len(events) == 7 {
			return
		}
		for e := range allEvents {
			if !possible(events, actions, e) {
				continue
			}
			s, r := state, rule
			got, want := s.On(e), r.wants(e)
			es, as := append(events[:len(events):len(events)], e), append(actions[:len(actions):len(actions)], got)
			if got != want || (s == StateClosed) != r.over() {
				t.Fatalf("after %v: action %d, want %d; state %d, over: %v", es, got, want, s, r.over())
			}
			checkSent(t, es, as)
			follow(s, r, es, as)
		}
	}
	follow(StateOpen, ended{}, nil, nil)
	t.Logf("%d orders", orders)
}

func checkSent(t *testing.T, events []Event, actions []Action) {
	t.Helper()
	var fins, resets int
	for i, e := range events {
		switch {
		case actions[i] != DoSend:
		case e == SendFin:
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
	state   [2]State
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
		if room && (w.state[i] == StateOpen || w.state[i] == StateFinGot) {
			n := w
			n.inbound[1-i] += "b"
			out = append(out, n)
		}
		for _, e := range []Event{SendFin, SendReset, LetGo} {
			n := w
			do := n.state[i].On(e)
			switch {
			case do == DoAbort, do == DoSend && !room, do == DoNothing && e != LetGo:
				continue
			case do == DoSend && e == SendFin:
				n.inbound[1-i] += "F"
			case do == DoSend:
				n.inbound[1-i] += "R"
			}
			n.gone[i] = e == LetGo
			out = append(out, n)
		}
		if n := w; len(w.inbound[i]) > 0 && !w.deaf[i] {
			e := map[byte]Event{'b': GotData, 'F': GotFin, 'R': GotReset}[w.inbound[i][0]]
			n.inbound[i] = w.inbound[i][1:]
			do := n.state[i].On(e)
			if do == DoBreach {
				t.Errorf("an honest frame breaks the protocol: %+v", w)
			}
			n.deaf[i] = do == DoFail
			out = append(out, n)
		}
	}
	return out
}

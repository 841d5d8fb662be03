// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"strconv"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/lane"
	"tacit/tproxy/lane/message"
)

// moved is a captured stream. Each instance that is lost before its answer is
// followed by another one.
func (b *bench) moved() *world {
	w := b.world()
	w.results = map[string][]Result{}
	w.p.cfg.Router, w.p.open, w.p.ctx = elsewhere{w}, w.open, context.Background()
	w.s.entry, w.s.route = leaver{capture{}, w}, w.p.newRoute(w.s, Origin{})
	return w
}

func movedEvents() []event {
	far := func(do func(*fakeFar) bool) func(*world) bool { return func(w *world) bool { return do(w.far) } }
	return append(programEvents("near", func(w *world) *fakeConn { return w.near })[:4],
		event{"far answers", far(func(f *fakeFar) bool { return f.send(3) })},
		event{"far sends FIN", far((*fakeFar).sendFin)},
		event{"the instance is lost", func(w *world) bool {
			lost := w.far.lose(policy.ReasonReset)
			w.p.work.Wait()
			return lost
		}},
		event{"far takes 1", far(func(f *fakeFar) bool { return f.take(1) })},
		event{"far takes 9", far(func(f *fakeFar) bool { return f.take(9) })},
		event{"far takes none", far(func(f *fakeFar) bool { return f.take(0) })},
		event{"stop", (*world).stop},
		event{"time passes", (*world).expire})
}

// open is the set of lanes'. It is called in the goroutine that looks for an instance,
// while the test waits.
func (w *world) open(_ context.Context, _ *lane.Loop, _ lane.Peer, _ message.Opening, _ lane.User) (*lane.Stream, error) {
	if len(w.fars) > 0 && (w.far.eof || w.far.sent.n > 0) {
		w.faults.add("an instance has answered, and another one was opened")
	}
	w.far = &fakeFar{faults: &w.faults, s: w.s, room: 2}
	w.fars = append(w.fars, w.far)
	f := w.far
	w.loop.Do(func() {
		f.joined = true
		w.s.join(f)
	})
	w.s.route.deadline = time.Now().Add(time.Hour) // the test takes the time that it takes
	return nil, nil
}

// elsewhere is a Router with as many instances as are wanted.
type elsewhere struct{ w *world }

func (elsewhere) Identify(int) (Origin, error)                   { return Origin{}, nil }
func (elsewhere) Granted(identity.Name, identity.Name) bool      { return true }
func (elsewhere) Dial(context.Context, Inbound) (Dialled, error) { panic("no program is dialled") }
func (elsewhere) Decide(identity.Name, identity.Name) policy.Decision {
	return policy.Decision{Allowed: true}
}

func (e elsewhere) Pick(_ Origin, tried []Target) (Target, error) {
	return Target{Instance: strconv.Itoa(len(tried)), Others: true}, nil
}

func (e elsewhere) Report(t Target, how Result) {
	e.w.results[t.Instance] = append(e.w.results[t.Instance], how)
}

// leaver is an Entry that counts.
type leaver struct {
	Entry
	w *world
}

func (l leaver) Left(Origin) { l.w.left++ }

// checkMoved checks what only captured streams have.
func (w *world) checkMoved() {
	if w.s.route == nil {
		return
	}
	for i, f := range w.fars {
		if f != w.far && !f.lost && f.resets == 0 {
			w.faults.add("two instances have the stream")
		}
		if f.got.n > w.near.sent.n || f.fin && f.got.n != w.near.sent.n {
			w.faults.add("instance %d of %d got %d of %d bytes, FIN: %t", i, len(w.fars), f.got.n, w.near.sent.n, f.fin)
		}
	}
	if w.over() {
		w.checkResults()
	}
	if answered := w.far.eof || w.far.sent.n > 0; answered && w.far.got.n == w.near.sent.n && w.s.route.bytes != nil {
		w.faults.add("%d bytes are kept after the answer", len(w.s.route.bytes))
	}
}

// checkResults: each instance that was picked was reported as failed or ended once.
func (w *world) checkResults() {
	if w.left != 1 {
		w.faults.add("the entry was left %d times", w.left)
	}
	if w.ended[0].End == policy.ReasonReset && !w.near.reset && !w.given() {
		w.faults.add("the stream wasn't moved")
	}
	if w.far.joined && w.ended[0].End != policy.ReasonClosed && w.far.lost == (w.far.resets > 0) {
		w.faults.add("the last instance wasn't told of the end")
	}
	for i, f := range w.fars {
		all := w.results[strconv.Itoa(i)]
		answered := f.joined && (f.eof || f.sent.n > 0)
		want := 1
		if answered {
			want = 2
		}
		if len(all) != want || answered != (all[0] == Answered) || all[len(all)-1] == Failed && (answered || !f.lost) {
			w.faults.add("instance %d of %d: reported %v; answered: %t, lost: %t", i, len(w.fars), all, answered, f.lost)
		}
	}
}

// given says whether the loss of the present instance must end the stream: it has
// answered, or was the third one that got something.
func (w *world) given() bool {
	got := 0
	for _, f := range w.fars {
		if f.lost && (f.got.n > 0 || f.fin) {
			got++
		}
	}
	return w.far.lost && (got > replaysLimit || w.far.eof || w.far.sent.n > 0)
}

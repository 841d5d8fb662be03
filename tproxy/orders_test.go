// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tacit/policy"
	"tacit/tproxy/lane"
)

// event is something that happens to a stream; do returns false where it can't happen.
type event struct {
	name string
	do   func(*world) bool
}

// world is one stream on a fake loop, with all that is around it.
type world struct {
	faults  mistakes
	loop    fakeLoop
	p       *Proxy
	s       *stream
	near    *fakeConn
	second  *fakeConn // of a stream between two programs
	far     *fakeFar  // of a stream on a lane
	fars    []*fakeFar
	left    int // times that its entry was left
	stopped bool
	expired bool
	late    bool // an event came without a turn after the one before
	ended   []Flow
	results map[string][]Result // of a route, by instance
}

func (w *world) over() bool { return len(w.ended) > 0 }

// bench is what the worlds of one goroutine share.
type bench struct{ lane *lane.Loop }

func (b *bench) world() *world {
	w := &world{}
	w.loop.faults = &w.faults
	w.p = &Proxy{streams: map[*stream]struct{}{}, cfg: Config{Log: slog.New(slog.DiscardHandler),
		OnEnd: func(f Flow) { w.ended = append(w.ended, f) }}}
	w.s = w.p.newStream(Flow{}, fakeThread(b.lane, &w.loop))
	w.near = w.socket()
	w.s.near = &program{conn: w.near, thread: w.s.thread, readable: true}
	w.p.begin(w.s)
	return w
}

func (w *world) socket() *fakeConn {
	c := &fakeConn{faults: &w.faults, fd: len(w.loop.sockets), room: 2}
	w.loop.sockets = append(w.loop.sockets, c)
	return c
}

// onLane is a stream on a lane.
func (b *bench) onLane() *world {
	w := b.world()
	w.far = &fakeFar{faults: &w.faults, s: w.s, room: 2}
	return w
}

// here is a stream between two programs.
func (b *bench) here() *world {
	w := b.world()
	w.second = w.socket()
	return w
}

func (w *world) join() {
	switch {
	case w.s.route != nil:
		w.s.route.open()
	case w.second != nil:
		w.s.joinSecond(&program{conn: w.second, thread: w.s.thread, readable: true})
	default:
		w.far.joined = true
		w.s.join(w.far)
	}
}

func (w *world) stop() bool {
	w.stopped = true
	return w.s.stop(policy.ReasonChanged)
}

// expire lets all timers run out.
func (w *world) expire() bool {
	if len(w.loop.timers) == 0 {
		return false
	}
	w.expired = true
	w.loop.expire()
	return true
}

func programEvents(who string, of func(*world) *fakeConn) []event {
	return []event{
		{who + " sends 1", func(w *world) bool { return of(w).send(1) }},
		{who + " sends 9", func(w *world) bool { return of(w).send(9) }},
		{who + " sends FIN", func(w *world) bool { return of(w).sendFin() }},
		{who + " resets", func(w *world) bool { return of(w).sendReset() }},
		{who + " takes 1", func(w *world) bool { return of(w).take(1) }},
		{who + " takes 8", func(w *world) bool { return of(w).take(8) }},
	}
}

func laneEvents() []event {
	return append(programEvents("near", func(w *world) *fakeConn { return w.near }),
		event{"far sends 3", func(w *world) bool { return w.far.send(3) }},
		event{"far sends FIN", func(w *world) bool { return w.far.sendFin() }},
		event{"far is lost", func(w *world) bool { return w.far.lose(policy.ReasonLane) }},
		event{"far takes 1", func(w *world) bool { return w.far.take(1) }},
		event{"far takes 9", func(w *world) bool { return w.far.take(9) }},
		event{"far takes none", func(w *world) bool { return w.far.take(0) }},
		event{"stop", (*world).stop},
		event{"time passes", (*world).expire})
}

func hereEvents() []event {
	return append(append(programEvents("near", func(w *world) *fakeConn { return w.near }),
		programEvents("second", func(w *world) *fakeConn { return w.second })...),
		event{"stop", (*world).stop},
		event{"time passes", (*world).expire})
}

// order is a sequence of events, each with or without a turn of the loop after it.
type order struct {
	events []event
	seq    []int // index of the event, twice, plus 1 without a turn
	turns  bool  // a turn after each event
	joinAt int   // events before the stream is joined
}

// run plays an order. It returns how many events were played: the last one could not
// happen, or the stream was over, where there are fewer than all.
func (o *order) run(w *world) int {
	for i, e := range o.seq {
		if i == o.joinAt {
			w.join()
			if o.turns {
				w.loop.turn()
			}
			if w.over() {
				w.check()
				return i
			}
		}
		if !o.events[e>>1].do(w) {
			return i + 1
		}
		if e&1 == 0 {
			w.loop.turn()
		}
		if w.over() {
			if i < o.joinAt {
				w.join() // the far end comes late
			}
			w.loop.turn()
		}
		w.check()
		if w.over() || w.faults.first != "" {
			return i + 1
		}
	}
	w.loop.turn()
	w.drain()
	return len(o.seq)
}

// next makes the next order that differs within the first n events; false: that was
// the last one.
func (o *order) next(n int) bool {
	step := 1
	if o.turns {
		step = 2
	}
	clear(o.seq[n:])
	for n--; n >= 1; n-- { // the first event is the test's
		if o.seq[n] += step; o.seq[n] < 2*len(o.events) {
			return true
		}
		o.seq[n] = 0
	}
	return false
}

func (o *order) String() string {
	var names []string
	for _, e := range o.seq {
		name := o.events[e>>1].name
		if e&1 == 1 {
			name += " (no turn)"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// drain makes room everywhere: then all that was sent arrives. What isn't over after
// that ends in an orderly way when both ends do.
func (w *world) drain() {
	w.takeAll()
	w.check()
	w.delivered()
	if w.over() {
		return
	}
	w.near.sendFin()
	if w.second != nil {
		w.second.sendFin()
	} else {
		w.far.sendFin()
	}
	w.takeAll()
	w.check()
	w.delivered()
	if !w.over() {
		w.faults.add("the stream hangs: %+v, near %+v", w.s.carried, *w.s.near)
	}
}

func (w *world) takeAll() {
	for _, c := range w.loop.sockets {
		c.take(1000)
	}
	for range 100 { // a far end has room for 8 bytes at a time
		if w.second == nil {
			w.far.take(100)
		}
		w.loop.turn()
	}
}

// orders are the orders of one kind of stream.
type orders struct {
	events []event
	make   func(*bench) *world
	runs   *atomic.Int64
}

// all plays every order of n events and reports the first fault.
func (k orders) all(t *testing.T, n int, turns bool, joinAt int) {
	var wg sync.WaitGroup
	work := make(chan int)
	for range 2 {
		wg.Go(func() {
			b := &bench{lane.NewLoop(nil)}
			for first := range work {
				k.from(t, b, &order{events: k.events, seq: append([]int{first}, make([]int, n-1)...), turns: turns, joinAt: joinAt})
			}
		})
	}
	for first := range 2 * len(k.events) {
		if !turns || first&1 == 0 {
			work <- first
		}
	}
	close(work)
	wg.Wait()
}

func (k orders) from(t *testing.T, b *bench, o *order) {
	runs := 0
	for {
		w := k.make(b)
		n := o.run(w)
		runs++
		if w.faults.first != "" {
			t.Errorf("joined after %d events: %s: %s", o.joinAt, o, w.faults.first)
			return
		}
		if !o.next(n) {
			k.runs.Add(int64(runs))
			return
		}
	}
}

// lengths are how many events an order has: with a turn of the loop after each,
// with several in one turn, and where the far end comes later.
type lengths struct{ turns, mixed, late int }

func length() lengths {
	if os.Getenv("TACIT_SOAK") != "" {
		return lengths{6, 5, 5}
	}
	return lengths{5, 3, 3}
}

// TestOrders: whatever happens to a stream in whatever order, both ends see what they
// would have seen of one TCP connection. Every order of six events is tried with
// TACIT_SOAK, and of five without.
func TestOrders(t *testing.T) {
	for name, k := range map[string]orders{
		"lane":  {events: laneEvents(), make: (*bench).onLane},
		"local": {events: hereEvents(), make: (*bench).here},
		"moved": {events: movedEvents(), make: (*bench).moved},
	} {
		t.Run(name, func(t *testing.T) {
			k.runs = &atomic.Int64{}
			n := length()
			k.all(t, n.turns, true, 0)
			k.all(t, n.mixed, false, 0)
			for joinAt := 1; joinAt <= 2 && name != "moved"; joinAt++ {
				k.all(t, n.late, true, joinAt)
				k.all(t, n.late, false, joinAt)
			}
			t.Logf("%d orders", k.runs.Load())
		})
	}
}

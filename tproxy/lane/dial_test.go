// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"tacit/internal/testhost"
	"tacit/policy"
	"tacit/tproxy/lane/message"
	"tacit/tproxy/socket"
)

// TestOneDials: of many streams that are opened at once to a new peer, one dials a lane
// and the others wait for it.
func TestOneDials(t *testing.T) {
	a, b := pair(t)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { a.ask(b.port, "db") })
	}
	all.Wait()
	if lanes := a.List(); len(lanes) != 1 || lanes[0].Streams != 50 {
		t.Errorf("lanes %+v", lanes)
	}
}

// TestDialTurns: where a dial is given up or fails, a stream that waits for it dials
// itself: one cancelled caller's failure isn't everyone's.
func TestDialTurns(t *testing.T) {
	a, b := pair(t)
	ln := listen(t)
	defer ln.Close()
	silent := Peer{Node: "b", Addr: netip.MustParseAddrPort(ln.Addr().String())} // connects, and never speaks
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := a.Open(ctx, a.loop, silent, message.Opening{Source: "web", Destination: "db", Port: 1}, &caller{h: a})
		first <- err
	}()
	testhost.Eventually(t, 5*time.Second, "the first dials", func() error {
		a.Set.mu.Lock()
		defer a.Set.mu.Unlock()
		if len(a.dialling) == 0 {
			return errors.New("nobody does")
		}
		return nil
	})
	var waiting sync.WaitGroup
	for range 3 { // with the right address
		waiting.Go(func() { a.ask(b.port, "db") })
	}
	cancel()
	if err := <-first; policy.ReasonOf(err, "") != policy.ReasonLane {
		t.Errorf("the first: %v", err)
	}
	waiting.Wait()
	a.lanes(1)
}

// TestDialInAdvanceEnds: a lane that is dialled in advance, to a peer that connects and
// never speaks, is given up: others could never dial.
func TestDialInAdvanceEnds(t *testing.T) {
	a, _ := pair(t)
	ln := listen(t)
	defer ln.Close()
	silent := Peer{Node: "b", Addr: netip.MustParseAddrPort(ln.Addr().String())}
	r := route{"b", a.loop}
	a.Set.mu.Lock()
	a.dialling[r] = make(chan struct{})
	a.Set.mu.Unlock()
	begin := time.Now()
	if _, err := a.dialTurn(context.Background(), a.loop, silent); policy.ReasonOf(err, "") != policy.ReasonLane {
		t.Errorf("ended with %v", err)
	}
	if took := time.Since(begin); took > dialTimeout+5*time.Second {
		t.Errorf("it took %s", took)
	}
	if len(a.dialling) != 0 {
		t.Error("the turn was not given back")
	}
}

// TestAbortWhileItStarts: a lane that is cut between its making and its first turn isn't
// watched: its descriptor may be another connection's by then.
func TestAbortWhileItStarts(t *testing.T) {
	a, b := pair(t)
	hold, held := make(chan struct{}), make(chan struct{})
	a.events.Do(func() { close(held); <-hold })
	<-held
	failed := make(chan error, 1)
	go func() {
		_, err := a.call(b.port, "db", "", false)
		failed <- err
	}()
	testhost.Eventually(t, 5*time.Second, "a lane is made", func() error {
		if len(a.all()) == 0 {
			return errors.New("none is")
		}
		return nil
	})
	a.Revoke("b") // its end comes before or after its first turn
	close(hold)
	if err := <-failed; err == nil {
		t.Error("a stream on a lane that was cut")
	}
	a.lanes(0)
	a.ask(b.port, "db")
}

// TestRetire: a node that retires its lanes takes no further streams on them, lets those
// go on that it has, and loses none that was being opened.
func TestRetire(t *testing.T) {
	a, b := pair(t)
	stream := a.held(b.port, "db")
	old := a.one()
	b.one().retire()
	testhost.Eventually(t, 5*time.Second, "it is known", func() error {
		old.mu.Lock()
		defer old.mu.Unlock()
		if !old.retiring {
			return errors.New("not yet")
		}
		return nil
	})
	crossing := &caller{h: a, rest: []byte("hello"), ends: true}
	a.on(func() { // as if RETIRE had not come yet
		st := newStream(old, "web", "db")
		st.user = crossing
		old.mu.Lock()
		old.retiring = false
		old.live++
		old.mu.Unlock()
		old.begin(st, nil, message.Opening{Source: "web", Destination: "db", Port: 5432}.Encode())
		old.mu.Lock()
		old.retiring = true
		old.mu.Unlock()
	})
	crossing.await("the answer to what crossed", func() bool { return crossing.end && string(crossing.got) == "hello" })
	a.ask(b.port, "db") // on a lane of its own
	a.lanes(2)
	stream.send("y")
	stream.await("the echo", func() bool { return string(stream.got) == "xy" })
	stream.h.on(func() { stream.s.Fin() })
	stream.await("its end", func() bool { return stream.end })
	a.lanes(1)
	b.lanes(1)
}

// TestPoorWay: where a lost packet would stop all streams of a lane for long, they are
// spread over some lanes; where it wouldn't, they share one.
func TestPoorWay(t *testing.T) {
	a, b := pair(t)
	for range 2 * dialledLanes {
		a.held(b.port, "db")
	}
	a.lanes(1)
	for range 8 * dialledLanes {
		a.all()[0].guest.Way.Learn(socket.Path{Trip: time.Second})
		a.held(b.port, "db")
	}
	a.lanes(dialledLanes)
	for _, l := range a.List() {
		if l.Live < 2*dialledLanes {
			t.Errorf("one of %d lanes has %d streams", dialledLanes, l.Live)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/lane"
	"tacit/tproxy/lane/message"
)

// trio is web on node a, calling db on node b first and then on node c, whose
// program is echo. first is the program on b.
func trio(t *testing.T, retry Retry, first func(*net.TCPConn)) (a, b, c *host) {
	t.Helper()
	a, b = pair(t, first)
	c = a.mesh.host("c", "127.0.0.1:0", "db")
	addr := serve(t, echo)
	c.with(func() {
		c.programs["db"] = addr
		c.grants[[2]identity.Name{"a", "web"}] = true
	})
	a.with(func() {
		a.grants[[2]identity.Name{"c", "db"}] = true
		a.target.Retry = retry
		a.others = []Target{{Node: "c", Lane: c.lane, Port: 5432, Instance: "db-2"}}
	})
	return a, b, c
}

// readThenReset reads n bytes, answers with some, and resets.
func readThenReset(n int, answer string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, n))
		_, _ = io.WriteString(c, answer)
		if answer != "" {
			_, _ = io.ReadFull(c, make([]byte, 1)) // the answer has arrived
		}
		_ = c.SetLinger(0)
	}
}

// TestElsewhere: what the first instance has not answered is carried to the
// second one, unseen by the program, as far as the service allows.
func TestElsewhere(t *testing.T) {
	const request = "hello"
	reset := readThenReset(len(request), "")
	for name, tc := range map[string]struct {
		retry Retry
		first func(*net.TCPConn)
		set   func(a, b *host)
		want  policy.Reason // "": the second instance answers
	}{
		"program not there":          {set: func(_, b *host) { b.programs["db"] = "127.0.0.1:1" }},
		"program not there, connect": {retry: RetryConnect, set: func(_, b *host) { b.programs["db"] = "127.0.0.1:1" }},
		"program not there, never":   {retry: RetryNever, set: func(_, b *host) { b.programs["db"] = "127.0.0.1:1" }, want: policy.ReasonDial},
		"node not there":             {set: func(a, _ *host) { a.target.Lane = netipLoopback(1) }},
		"node not there, never":      {retry: RetryNever, set: func(a, _ *host) { a.target.Lane = netipLoopback(1) }, want: policy.ReasonLane},
		"no grant for the node":      {set: func(a, _ *host) { delete(a.grants, [2]identity.Name{"b", "db"}) }},
		"reset after the request":    {first: reset},
		"reset, only connect":        {first: reset, retry: RetryConnect, want: policy.ReasonReset},
		"denied there is final":      {set: func(_, b *host) { b.table.Store(deny) }, want: policy.ReasonDefault},
		"program here not there": {set: func(a, _ *host) {
			a.programs["db"] = "127.0.0.1:1"
			a.target = Target{Node: "a", Port: 5432, Instance: "db-0", Local: true}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.first == nil {
				tc.first = echo
			}
			a, b, _ := trio(t, tc.retry, tc.first)
			if tc.set != nil {
				a.with(func() { b.with(func() { tc.set(a, b) }) })
			}
			for n := range 3 { // the first call meets a cold lane
				if tc.want != "" {
					a.wantRefused([]byte(request))
					if f := a.lastFlow(n + 1); f.End != tc.want {
						t.Errorf("ended with %q, want %q", f.End, tc.want)
					}
					continue
				}
				ask(t, a)
				if f := a.lastFlow(n + 1); f.End != policy.ReasonClosed || f.Node != "c" || f.Sent != 5 || f.Received != 5 {
					t.Errorf("flow %+v", f)
				}
			}
			a.with(func() {
				if tc.want == "" && name != "no grant for the node" && !slices.Equal(a.results[:3], []Result{Failed, Answered, Ended}) {
					t.Errorf("reported %v", a.results)
				}
			})
		})
	}
}

// TestNotElsewhere: after a byte of an answer, or more bytes than are kept, the
// loss of an instance is a reset.
func TestNotElsewhere(t *testing.T) {
	t.Run("answered", func(t *testing.T) {
		a, _, _ := trio(t, "", readThenReset(5, "x"))
		c := a.call()
		_, _ = c.Write([]byte("hello"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte("y"))
		wantReset(t, c)
	})
	t.Run("too much sent", func(t *testing.T) {
		a, _, _ := trio(t, "", readThenReset(replayLimit+1, ""))
		a.wantRefused(make([]byte, replayLimit+1))
	})
}

// TestSameAgain: an instance whose lane was lost, or whose daemon makes way for another,
// is tried once more where there is no other one.
func TestSameAgain(t *testing.T) {
	for _, why := range []policy.Reason{policy.ReasonLane, policy.ReasonDrain} {
		t.Run(string(why), func(t *testing.T) { sameAgain(t, why) })
	}
}

func sameAgain(t *testing.T, why policy.Reason) {
	a, _ := pair(t, echo)
	var opens atomic.Int64
	open := a.open
	a.with(func() { // Pick, which comes before, takes the same lock
		a.open = func(ctx context.Context, on *lane.Loop, to lane.Peer, o message.Opening, u lane.User) (*lane.Stream, error) {
			if opens.Add(1) == 1 {
				return nil, policy.Refuse(why, "not now")
			}
			return open(ctx, on, to, o, u)
		}
	})
	ask(t, a)
	if f := a.lastFlow(1); f.End != policy.ReasonClosed || opens.Load() != 2 {
		t.Errorf("flow %+v after %d attempts", f, opens.Load())
	}
}

// TestReplay: all that is kept arrives elsewhere in its order, with FIN.
func TestReplay(t *testing.T) {
	for _, size := range []int{0, 1, 20_000, replayLimit} {
		a, b, _ := trio(t, "", func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c); _ = c.SetLinger(0) })
		sent := bytes.Repeat([]byte("0123456789abcdef!"), size/17+1)[:size]
		c := a.call()
		for _, part := range [][]byte{sent[:size/2], sent[size/2:]} {
			_, _ = c.Write(part)
			eventually(t, "the bytes to be under way", func() bool { return len(a.Flows()) == 1 })
		}
		_ = c.CloseWrite()
		wantBytes(t, c, sent)
		if f := a.lastFlow(1); f.Node != "c" || f.Sent != uint64(size) {
			t.Errorf("%d bytes: flow %+v", size, f)
		}
		eventually(t, "the flow on the lost node to end", func() bool { return len(b.Flows()) == 0 })
	}
}

// TestServerFirst: a program that speaks first is reached elsewhere, too.
func TestServerFirst(t *testing.T) {
	a, b, c := trio(t, "", echo)
	hello := serve(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "220 ready"); _, _ = io.Copy(io.Discard, c) })
	c.with(func() { c.programs["db"] = hello })
	b.with(func() { b.programs["db"] = "127.0.0.1:1" })
	conn := a.call()
	got := make([]byte, 9)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "220 ready" {
		t.Fatalf("got %q, %v", got, err)
	}
}

// TestNodeLost: a node that goes while a request is unanswered costs nothing; the
// lane reused from earlier streams, and the one dialled for this, behave alike.
func TestNodeLost(t *testing.T) {
	got := make(chan struct{}, 1)
	a, b, _ := trio(t, "", func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 5))
		got <- struct{}{}
		_, _ = io.Copy(io.Discard, c)
	})
	c := a.call()
	_, _ = c.Write([]byte("hello"))
	<-got
	b.lanes.Abort()
	_ = c.CloseWrite()
	wantBytes(t, c, []byte("hello"))
}

// TestBudget: attempts end after the budget however many instances there are.
func TestBudget(t *testing.T) {
	a, _, _ := trio(t, "", echo)
	dead := a.listen("127.0.0.1:0") // accepts TCP, and never answers the handshake
	defer func() { _ = dead.Close() }()
	a.with(func() {
		a.target.Lane = netipLoopback(uint16(dead.Addr().(*net.TCPAddr).Port))
		a.others = slices.Repeat([]Target{a.target}, 6)
	})
	began := time.Now()
	a.wantRefused([]byte("hello"))
	if d := time.Since(began); d > connectBudget+time.Second {
		t.Errorf("took %v", d)
	}
}

// TestPoison: a request that ends every program that gets it ends three at most.
func TestPoison(t *testing.T) {
	a, _, _ := trio(t, "", readThenReset(5, ""))
	a.with(func() {
		a.others = slices.Repeat([]Target{a.target}, 7)
		for i := range a.others {
			a.others[i].Instance = string(rune('a' + i))
		}
	})
	a.wantRefused([]byte("hello"))
	a.lastFlow(1)
	a.with(func() {
		if len(a.results) != 3 {
			t.Errorf("%d programs got the request, want 3", len(a.results))
		}
	})
}

// TestCutMeanwhile: a change of policy ends a stream that is on its way elsewhere.
func TestCutMeanwhile(t *testing.T) {
	a, _, c := trio(t, "", readThenReset(5, ""))
	dead := a.listen("127.0.0.1:0")
	defer func() { _ = dead.Close() }()
	a.with(func() { a.others[0].Lane = netipLoopback(uint16(dead.Addr().(*net.TCPAddr).Port)) })
	conn := a.call()
	_, _ = conn.Write([]byte("hello"))
	eventually(t, "the second attempt", func() bool { all := a.Flows(); return len(all) == 1 && all[0].Node == "c" })
	a.table.Store(deny)
	if cut := a.Sweep(); cut != 1 {
		t.Errorf("%d cut", cut)
	}
	wantReset(t, conn)
	if f := a.lastFlow(1); f.End != policy.ReasonChanged {
		t.Errorf("ended with %q", f.End)
	}
	if n := len(c.Flows()); n > 0 {
		t.Errorf("%d flows on the other node", n)
	}
}

// TestClientGone: a client that resets its connection isn't carried anywhere.
func TestClientGone(t *testing.T) {
	got, gone := make(chan struct{}), make(chan struct{})
	a, _, c := trio(t, "", func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 5))
		close(got)
		_, _ = io.Copy(io.Discard, c)
		close(gone)
	})
	conn := a.call()
	_, _ = conn.Write([]byte("hello"))
	<-got
	_ = conn.SetLinger(0)
	_ = conn.Close()
	<-gone
	if f := a.lastFlow(1); f.End != policy.ReasonReset || f.Node != "b" {
		t.Errorf("flow %+v", f)
	}
	c.with(func() {
		if len(c.ended) > 0 {
			t.Errorf("the other node saw %+v", c.ended)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tacit/policy"
)

// relay passes connections on to an address until it is frozen. Then, as at a node
// whose daemon is stopped, its kernel takes connections and bytes that nobody reads.
type relay struct {
	addr   netip.AddrPort
	frozen chan struct{}
	deaf   atomic.Bool // to new connections
}

func newRelay(t *testing.T, h *host, to string) *relay {
	t.Helper()
	ln := h.listen("127.0.0.1:0")
	r := &relay{addr: netip.MustParseAddrPort(ln.Addr().String()), frozen: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			if r.deaf.Load() {
				context.AfterFunc(ctx, func() { _ = near.Close() })
				continue
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			wg.Go(func() { r.copy(far, near) })
			wg.Go(func() { r.copy(near, far) })
			context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); cancel(); wg.Wait() })
	return r
}

func (r *relay) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-r.frozen:
			return
		default:
		}
		if err != nil {
			_ = to.Close()
			return
		}
		_, _ = to.Write(buf[:n])
	}
}

// TestSilentNode: a node whose kernel lives and whose daemon is stopped is given up
// within 1.5 s, on warm lanes and on new ones.
func TestSilentNode(t *testing.T) {
	a, b, _ := trio(t, "", echo)
	r := newRelay(t, b, b.lane.String())
	a.with(func() { a.target.Lane = r.addr })
	warm := a.call()
	_, _ = warm.Write([]byte("x"))
	if _, err := io.ReadFull(warm, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = warm.CloseWrite()
	wantBytes(t, warm, nil)
	a.lastFlow(1)
	close(r.frozen)
	began := time.Now()
	for n := range 2 {
		ask(t, a)
		if f := a.lastFlow(n + 2); f.Node != "c" || f.Duration > 1500*time.Millisecond {
			t.Errorf("call %d went to %s in %v", n, f.Node, f.Duration)
		}
	}
	t.Logf("two calls in %v", time.Since(began))
}

// TestDeadNode: a stream that was answered ends when the mesh holds its node for
// dead and the node gives no sign of life; a node that gives one keeps its streams.
func TestDeadNode(t *testing.T) {
	a, b := pair(t, echo)
	r := newRelay(t, b, b.lane.String())
	a.with(func() { a.target.Lane, a.dead = r.addr, true })
	c := a.call()
	for range 2 { // the second one comes after a question
		_, _ = c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a question", func() bool { a.signs.mu.Lock(); defer a.signs.mu.Unlock(); return a.signs.last["b"] != nil })
	}
	close(r.frozen)
	began := time.Now()
	_, _ = c.Write([]byte("y"))
	wantReset(t, c)
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	if f := a.lastFlow(1); f.End != policy.ReasonLane {
		t.Errorf("ended with %q", f.End)
	}
}

// TestNodeComesBack: a stream that is answered goes on while questions to its node,
// which the mesh still holds for dead, fail: packets of theirs were lost before.
func TestNodeComesBack(t *testing.T) {
	a, b := pair(t, echo)
	r := newRelay(t, b, b.lane.String())
	a.with(func() { a.target.Lane = r.addr })
	c := a.call()
	echoes := func() {
		t.Helper()
		_, _ = c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	echoes()
	r.deaf.Store(true)
	a.with(func() { a.dead = true })
	asked := map[*sign]bool{}
	eventually(t, "two questions without an answer", func() bool {
		echoes()
		a.signs.mu.Lock()
		defer a.signs.mu.Unlock()
		if s := a.signs.last["b"]; s != nil {
			asked[s] = true
		}
		failed := 0
		for s := range asked {
			select {
			case <-s.done:
				if s.err == nil {
					t.Fatal("a question was answered")
				}
				failed++
			default:
			}
		}
		return failed > 1
	})
	echoes()
}

// TestSlowProgram: a program that takes its time, on a node that lives, keeps its stream.
func TestSlowProgram(t *testing.T) {
	done := make(chan struct{})
	a, _, c := trio(t, "", func(c *net.TCPConn) {
		one := make([]byte, 1)
		_, _ = io.ReadFull(c, one)
		<-done
		_, _ = c.Write(one)
	})
	conn := a.call()
	_, _ = conn.Write([]byte("x"))
	eventually(t, "two signs of life", func() bool {
		a.signs.mu.Lock()
		defer a.signs.mu.Unlock()
		s := a.signs.last["b"]
		return s != nil && time.Since(a.Flows()[0].Start) > 3*silenceFirst
	})
	close(done)
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	c.with(func() {
		if len(c.ended) > 0 {
			t.Errorf("the stream went elsewhere: %+v", c.ended)
		}
	})
}

// TestOneQuestion: many streams that wait for one peer ask it once.
func TestOneQuestion(t *testing.T) {
	a, _ := pair(t, echo)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := a.ask(t.Context(), a.target.peer()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	first := a.signs.last["b"]
	if err := a.ask(t.Context(), a.target.peer()); err != nil || a.signs.last["b"] != first {
		t.Errorf("asked again at once, %v", err)
	}
}

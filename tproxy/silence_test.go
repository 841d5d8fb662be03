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
	"tacit/tproxy/lane"
)

// relay passes connections on to an address. While it is frozen, its kernel takes
// connections and bytes that nobody reads, as at a node whose daemon is stopped; what
// was frozen stays so.
type relay struct {
	addr   netip.AddrPort
	frozen atomic.Bool
}

// relayed puts a relay before the lane port of a's target.
func relayed(t *testing.T, a, b *host) *relay {
	t.Helper()
	ln := b.listen("127.0.0.1:0")
	r := &relay{addr: netip.MustParseAddrPort(ln.Addr().String())}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", b.lane.String())
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
	a.with(func() { a.target.Lane = r.addr })
	return r
}

func (r *relay) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if r.frozen.Load() {
			return
		}
		if err != nil {
			_ = to.Close()
			return
		}
		_, _ = to.Write(buf[:n])
	}
}

// soon is how long it may take until a silent node is noticed: 1.5 s, and as much again
// for a machine that is busy. Nothing else would notice it before that.
const soon = 3 * time.Second

// question sends a byte.
func question(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
}

// TestSilentNode: what a node whose daemon is stopped hasn't answered goes to another
// one: a stream that it had already, one on its warm lane, and one on a new lane.
func TestSilentNode(t *testing.T) {
	got := make(chan struct{}, 1)
	a, b, _ := trio(t, "", func(c *net.TCPConn) {
		one := make([]byte, 1)
		_, _ = io.ReadFull(c, one)
		if one[0] != 'x' {
			_, _ = c.Write(one)
			echo(c)
			return
		}
		got <- struct{}{}
		_, _ = io.Copy(io.Discard, c)
	})
	r := relayed(t, a, b)
	ask(t, a)
	if f := a.lastFlow(1); f.Node != "b" {
		t.Fatalf("went to %s", f.Node)
	}
	waiting := a.call()
	question(t, waiting)
	<-got
	r.frozen.Store(true)
	began := time.Now()
	for n := range 2 {
		c := a.call()
		_, _ = c.Write([]byte("hello"))
		_ = c.CloseWrite()
		wantBytes(t, c, []byte("hello"))
		if f := a.lastFlow(n + 2); f.Node != "c" || f.Duration > soon {
			t.Errorf("call %d went to %s in %v", n, f.Node, f.Duration)
		}
	}
	_ = waiting.CloseWrite()
	wantBytes(t, waiting, []byte("x"))
	t.Logf("three calls in %v", time.Since(began))
	r.frozen.Store(false)
	ask(t, a)
	if f := a.lastFlow(5); f.Node != "b" {
		t.Errorf("the node is back, and the call went to %s", f.Node)
	}
}

// TestSilentNodeEnds: a stream that a node has answered ends when its daemon is stopped.
func TestSilentNodeEnds(t *testing.T) {
	a, b := pair(t, echo)
	r := relayed(t, a, b)
	quiet, writing := a.speak(), a.speak()
	r.frozen.Store(true)
	began := time.Now()
	question(t, writing)
	for n, c := range []*net.TCPConn{writing, quiet} {
		wantReset(t, c)
		if f := a.lastFlow(n + 1); f.End != policy.ReasonLane {
			t.Errorf("ended with %q", f.End)
		}
	}
	if d := time.Since(began); d > soon {
		t.Errorf("took %v", d)
	}
	t.Logf("noticed after %v", time.Since(began))
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
	question(t, conn)
	eventually(t, "many rounds of upkeep", func() bool {
		all := a.Flows()
		return len(all) == 1 && time.Since(all[0].Start) > 8*lane.UpkeepPeriod
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

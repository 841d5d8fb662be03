// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"tacit/identity"
	"tacit/policy"
)

func netipLoopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

// ask makes one echo connection and waits until its flow has ended.
func ask(t *testing.T, a *host) {
	t.Helper()
	c := a.call()
	_, _ = c.Write([]byte("hello"))
	_ = c.CloseWrite()
	wantBytes(t, c, []byte("hello"))
	eventually(t, "the flow to end", func() bool { return len(a.Flows()) == 0 })
}

// TestReuse: a second connection needs no handshake and no proof; one to another
// service needs a proof only.
func TestReuse(t *testing.T) {
	a, b := pair(t, echo)
	b.with(func() {
		b.services["cache"] = a.mesh.svid(identity.ServiceID(td, "cache"))
		b.programs["cache"] = b.programs["db"]
	})
	a.with(func() { a.grants[[2]identity.Name{"b", "cache"}] = true })
	for n, dst := range []identity.Name{"db", "db", "cache", "db", "cache"} {
		a.with(func() { a.origin.Destination = dst })
		ask(t, a)
		lanes := a.Lanes()
		if len(lanes) != 1 || lanes[0].Streams != n+1 || lanes[0].Direction != DirectionOut || lanes[0].Peer != b.cfg.Node {
			t.Fatalf("after %d connections: lanes %+v", n+1, lanes)
		}
	}
	if l := a.lanes.all()[0]; l.seen != 2 || l.shown != 1 {
		t.Errorf("%d proofs seen, %d shown; want 2 and 1", l.seen, l.shown)
	}
	if lanes := b.Lanes(); len(lanes) != 1 || lanes[0].Direction != DirectionIn || len(lanes[0].Proven) != 1 {
		t.Errorf("lanes there: %+v", lanes)
	}
	a.lanes.prune(time.Now().Add(a.cfg.IdleTimeout - time.Second))
	if n := len(a.Lanes()); n != 1 {
		t.Errorf("%d lanes before the idle limit", n)
	}
	a.lanes.prune(time.Now().Add(a.cfg.IdleTimeout + time.Second))
	if n := len(a.Lanes()); n != 0 {
		t.Errorf("%d lanes after the idle limit", n)
	}
	f := a.lastFlow(1)
	if f.Source != "web" || f.Destination != "db" || f.Node != "b" || f.Sent != 5 || f.Received != 5 || !f.Client.IsValid() {
		t.Errorf("flow %+v", f)
	}
}

// TestRestart: no connection fails on a warm lane to a peer that was restarted.
func TestRestart(t *testing.T) {
	a, b := pair(t, echo)
	ask(t, a)
	b.shut()
	b2 := a.mesh.host("b", b.lane.String(), "db")
	b2.with(func() { b2.programs, b2.grants = b.programs, b.grants })
	ask(t, a)
	if n := len(a.Lanes()); n != 1 {
		t.Errorf("%d lanes", n)
	}
}

// TestClose: live connections are cut with the reason "drain" at both ends;
// after the end of ServeLane's context, live ones go on and no new ones are
// accepted.
func TestClose(t *testing.T) {
	a, b := pair(t, echo)
	c := a.call()
	_, _ = c.Write([]byte("x"))
	_, _ = io.ReadFull(c, make([]byte, 1))
	b.cancel()
	_, _ = c.Write([]byte("y"))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	b.shut()
	wantReset(t, c)
	if f, g := a.lastFlow(1), b.lastFlow(1); f.End != policy.ReasonDrain || g.End != policy.ReasonDrain {
		t.Errorf("ended with %q and %q", f.End, g.End)
	}
	a.wantRefused(nil)
	if f := a.lastFlow(2); f.End != policy.ReasonLane {
		t.Errorf("ended with %q", f.End)
	}
}

// TestCertificates: a busy lane proves renewed certificates and outlives the
// old ones; one without a renewed proof is cut; an idle one past half life isn't
// used; a sweep cuts that of a revoked node.
func TestCertificates(t *testing.T) {
	a, b := pair(t, echo)
	c := a.call()
	answer := func() error {
		_, _ = c.Write([]byte("x"))
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	if err := answer(); err != nil {
		t.Fatal(err)
	}
	old := a.node.Load().Chain[0].NotAfter
	for _, h := range []*host{a, b} {
		h.node.Store(a.mesh.longer().svid(h.cfg.Node))
	}
	eventually(t, "both to prove anew", func() bool {
		return a.Lanes()[0].Ends.After(old.Add(time.Minute)) && b.Lanes()[0].Ends.After(old.Add(time.Minute))
	})
	later := old.Add(expiryGrace + time.Second)
	a.checkLane(a.lanes.all()[0], later)
	b.checkLane(b.lanes.all()[0], later)
	if err := answer(); err != nil {
		t.Fatalf("after the first certificates' end: %v", err)
	}
	a.checkLane(a.lanes.all()[0], later.Add(2*time.Hour))
	wantReset(t, c)
	if f := a.lastFlow(1); f.End != policy.ReasonExpired {
		t.Errorf("ended with %q", f.End)
	}
	ask(t, a)
	stale := a.lanes.all()[0]
	stale.mu.Lock()
	stale.chainStale = time.Now()
	stale.mu.Unlock()
	ask(t, a)
	if all := a.lanes.all(); len(all) != 1 || all[0] == stale {
		t.Error("a stale lane was used again")
	}
	b.with(func() { b.revoked = true })
	b.Sweep()
	eventually(t, "the lane to be gone", func() bool { return len(b.Lanes()) == 0 })
}

func TestStale(t *testing.T) {
	leaf := newMesh(t).svid(identity.NodeID(td, "a")).Chain[0]
	half := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	if got := stale(leaf, leaf.NotBefore.Add(time.Minute)); !got.Equal(half) {
		t.Errorf("young: %v, want half life %v", got, half)
	}
	proven := leaf.NotAfter.Add(-10 * time.Minute)
	if got := stale(leaf, proven); !got.Equal(proven.Add(5 * time.Minute)) {
		t.Errorf("old: %v", got)
	}
}

// dial makes a lane on which a test can send what no honest node sends.
func dial(t *testing.T, from, to *host) *lane {
	t.Helper()
	l, err := from.lanes.handshake(context.Background(), Target{Node: to.name, Lane: to.lane})
	if err == nil {
		err = l.bind(true)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.abort(policy.ReasonClosed) })
	_ = l.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	return l
}

// TestForged: what a malicious node with a valid certificate can try on a lane.
func TestForged(t *testing.T) {
	open := appendFrame(nil, kindOpen, 1, opening{source: "web", destination: "db", port: 5432, prove: true}.encode())
	data := appendFrame(nil, kindData, 1, []byte("x"))
	cases := []struct {
		name  string
		send  func(l, other *lane, a *host) []byte
		reset policy.Reason // "": the lane ends
	}{
		{"no proof", func(_, _ *lane, _ *host) []byte { return open }, policy.ReasonProof},
		{"proof of another lane", func(_, other *lane, a *host) []byte {
			return append(must(other.proof(identity.RoleClient, a.services["web"])), open...)
		}, policy.ReasonProof},
		{"proof of another service", func(l, _ *lane, a *host) []byte {
			return append(must(l.proof(identity.RoleClient, a.mesh.svid(identity.ServiceID(td, "web2")))), open...)
		}, policy.ReasonProof},
		{"another node's certificate", func(l, _ *lane, a *host) []byte {
			return must(l.proof(identity.RoleNode, a.mesh.svid(identity.NodeID(td, "b"))))
		}, ""},
		{"proof in the acceptor's role", func(l, _ *lane, a *host) []byte {
			return must(l.proof(identity.RoleServer, a.services["web"]))
		}, ""},
		{"bytes without a stream", func(_, _ *lane, _ *host) []byte { return data }, ""},
		{"stream opened twice", func(l, _ *lane, a *host) []byte {
			return bytes.Join([][]byte{must(l.proof(identity.RoleClient, a.services["web"])), open, open}, nil)
		}, ""},
		{"unknown kind", func(_, _ *lane, _ *host) []byte { return appendFrame(nil, 9, 1, []byte("x")) }, ""},
		{"name in upper case", func(_, _ *lane, _ *host) []byte {
			return appendFrame(nil, kindOpen, 1, opening{source: "WEB", destination: "db"}.encode())
		}, ""},
		{"too many proofs", func(l, _ *lane, a *host) []byte {
			return bytes.Repeat(must(l.proof(identity.RoleClient, a.services["web"])), maxProofs+1)
		}, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			a, b := pair(t, echo)
			l := dial(t, a, b)
			if err := l.send(tc.send(l, dial(t, a, b), a)); err != nil {
				t.Fatal(err)
			}
			var h header
			var err error
			for h.kind = kindProve; h.kind == kindProve && err == nil; {
				var block *block
				h, block, err = l.readFrame()
				if tc.reset != "" && err == nil && policy.Reason(block.payload()[:h.length]) != tc.reset {
					t.Errorf("answer %v %q", h, block.payload()[:h.length])
				}
			}
			if (tc.reset == "") != (err != nil) {
				t.Errorf("lane: %v, frame %+v", err, h)
			}
		})
	}
}

// TestImpostor: a node with a valid certificate that answers for a service without
// proving it gets none of the client's bytes, and its own reach no client.
func TestImpostor(t *testing.T) {
	a, b := pair(t, echo)
	ln := b.listen("127.0.0.1:0")
	a.with(func() { a.target.Lane = netip.MustParseAddrPort(ln.Addr().String()) })
	got := make(chan []byte, 1)
	go func() {
		defer close(got)
		conn, err := ln.Accept()
		_ = ln.Close()
		if err != nil {
			return
		}
		l := &lane{cfg: &b.cfg, blocks: &b.blocks, tcp: conn.(*net.TCPConn), conn: tls.Server(conn, identity.ServerTLS(b, nil))}
		var bytes []byte
		for {
			h, block, err := l.readFrame()
			if err != nil {
				break
			}
			switch h.kind {
			case kindOpen:
				_ = l.send(appendFrame(nil, kindData, h.stream, []byte("false")))
			case kindData:
				bytes = append(bytes, block.payload()[:h.length]...)
			}
		}
		got <- bytes
		l.abort(policy.ReasonClosed)
	}()
	a.wantRefused([]byte("secret"))
	if bytes := <-got; len(bytes) > 0 {
		t.Errorf("the impostor got %q", bytes)
	}
	if f := a.lastFlow(1); f.End != policy.ReasonProtocol {
		t.Errorf("ended with %q", f.End)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

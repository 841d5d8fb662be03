// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"tacit/identity"
	"tacit/policy"
)

var deny = policy.NewTable(policy.Deny, nil)

// TestRefused: for every reason of a refusal the client gets RST, the program gets
// no byte, and each node involved makes one flow record with that reason.
func TestRefused(t *testing.T) {
	web, db := [2]identity.Name{"a", "web"}, [2]identity.Name{"b", "db"}
	other := func(h *host, m *mesh, as identity.Name) {
		h.services[as] = m.svid(identity.ServiceID(td, "other"))
	}
	cases := []struct {
		name string
		set  func(a, b *host, m *mesh)
		want policy.Reason
		in   bool // the destination's node saw it
	}{
		{"caller unknown", func(a, _ *host, _ *mesh) { a.who = &policy.Refusal{Reason: policy.ReasonCreator} }, policy.ReasonCreator, false},
		{"denied here", func(a, _ *host, _ *mesh) { a.table.Store(deny) }, policy.ReasonDefault, false},
		{"denied there", func(_, b *host, _ *mesh) { b.table.Store(deny) }, policy.ReasonDefault, true},
		{"no instance", func(a, _ *host, _ *mesh) { a.how = &policy.Refusal{Reason: policy.ReasonInstance} }, policy.ReasonInstance, false},
		{"destination not granted", func(a, _ *host, _ *mesh) { delete(a.grants, db) }, policy.ReasonGrant, false},
		{"source not granted", func(_, b *host, _ *mesh) { delete(b.grants, web) }, policy.ReasonGrant, true},
		{"source without certificate", func(a, _ *host, _ *mesh) { delete(a.services, "web") }, policy.ReasonProof, false},
		{"destination without certificate", func(_, b *host, _ *mesh) { delete(b.services, "db") }, policy.ReasonProof, true},
		{"source with another's certificate", func(a, _ *host, m *mesh) { other(a, m, "web") }, policy.ReasonProof, true},
		{"destination with another's certificate", func(_, b *host, m *mesh) { other(b, m, "db") }, policy.ReasonProof, true},
		{"certificate of another mesh", func(a, _ *host, m *mesh) { a.services["web"] = newMesh(m.t).svid(identity.ServiceID(td, "web")) }, policy.ReasonProof, true},
		{"program not there", func(_, b *host, _ *mesh) { b.programs["db"] = "127.0.0.1:1" }, policy.ReasonDial, true},
		{"another node at the address", func(a, _ *host, _ *mesh) {
			a.target.Node = "c"
			a.grants[[2]identity.Name{"c", "db"}] = true
		}, policy.ReasonLane, false},
		{"node certificate of another mesh", func(_, b *host, m *mesh) { b.node.Store(newMesh(m.t).svid(identity.NodeID(td, "b"))) }, policy.ReasonLane, false},
		{"node revoked", func(a, _ *host, _ *mesh) { a.revoked = true }, policy.ReasonLane, false},
		{"nobody at the address", func(a, _ *host, _ *mesh) { a.target.Lane = netipLoopback(1) }, policy.ReasonLane, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var got atomic.Int64
			a, b := pair(t, func(c *net.TCPConn) {
				n, _ := io.Copy(io.Discard, c)
				got.Add(n)
			})
			a.with(func() { b.with(func() { tc.set(a, b, a.mesh) }) })
			for n := 1; n <= 2; n++ {
				a.wantRefused([]byte("secret"))
				if f := a.lastFlow(n); f.End != tc.want {
					t.Errorf("flow %d ended with %q, want %q", n, f.End, tc.want)
				}
				if tc.in {
					if f := b.lastFlow(n); f.End != tc.want {
						t.Errorf("flow %d ended with %q there, want %q", n, f.End, tc.want)
					}
				}
			}
			b.with(func() {
				if !tc.in && len(b.ended) > 0 {
					t.Errorf("the destination's node saw %+v", b.ended)
				}
			})
			if got.Load() > 0 {
				t.Errorf("the program got %d bytes", got.Load())
			}
		})
	}
}

// TestSweep: what is no longer allowed is cut within a second, whichever node
// learns it first, and whatever the connection does.
func TestSweep(t *testing.T) {
	web, db := [2]identity.Name{"a", "web"}, [2]identity.Name{"b", "db"}
	cases := []struct {
		name   string
		change func(a, b *host) *host // returns who sweeps
	}{
		{"denied at the source", func(a, _ *host) *host { a.table.Store(deny); return a }},
		{"denied at the destination", func(_, b *host) *host { b.table.Store(deny); return b }},
		{"destination's grant withdrawn", func(a, _ *host) *host { a.with(func() { delete(a.grants, db) }); return a }},
		{"source's grant withdrawn", func(_, b *host) *host { b.with(func() { delete(b.grants, web) }); return b }},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			a, b := pair(t, func(c *net.TCPConn) {
				one := make([]byte, 1)
				_, _ = io.ReadFull(c, one)
				_, _ = c.Write(one)
				_, _ = io.ReadFull(c, one)
			})
			var calls []*net.TCPConn
			for range 20 {
				c := a.call()
				_, _ = c.Write([]byte("x"))
				_, _ = io.ReadFull(c, make([]byte, 1))
				calls = append(calls, c)
			}
			_ = calls[0].CloseWrite()
			if a.Sweep()+b.Sweep() != 0 {
				t.Error("a sweep without a change cut something")
			}
			eventually(t, "the half-closed one to end", func() bool { return len(a.Flows()) == 19 })
			if cut := tc.change(a, b).Sweep(); cut != 19 {
				t.Errorf("%d cut, want 19", cut)
			}
			for n, c := range calls[1:] {
				_ = c.SetReadDeadline(time.Now().Add(8 * time.Second))
				wantReset(t, c)
				if f, g := a.lastFlow(n+2), b.lastFlow(n+2); f.End != policy.ReasonChanged || g.End != policy.ReasonChanged {
					t.Errorf("ended with %q and %q", f.End, g.End)
				}
			}
			if n := len(a.Lanes()); n > 20 {
				t.Errorf("%d lanes", n)
			}
		})
	}
	t.Run("local", func(t *testing.T) {
		a := local(t, echo)
		c := a.call()
		_, _ = c.Write([]byte("x"))
		_, _ = io.ReadFull(c, make([]byte, 1))
		a.table.Store(deny)
		if cut := a.Sweep(); cut != 1 {
			t.Errorf("%d cut", cut)
		}
		wantReset(t, c)
		if f := a.lastFlow(1); f.End != policy.ReasonChanged || f.Direction != DirectionLocal {
			t.Errorf("flow %+v", f)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/accept"
	"tacit/tproxy/socket"
)

// gate is an Entry for ingress a, which leads to db.
type gate struct {
	full, gone atomic.Bool
	let, left  atomic.Int32
}

func (g *gate) Identify(fd int) (Origin, error) {
	client, err := socket.Remote(fd)
	o := Origin{Source: "ingress/a", Destination: "db", Port: 5432, Client: client}
	if err != nil {
		return o, err
	}
	if g.full.Load() {
		return o, policy.Refuse(policy.ReasonLimit, "full")
	}
	g.let.Add(1)
	return o, nil
}

func (g *gate) Holds() bool { return !g.gone.Load() }
func (g *gate) Left(Origin) { g.left.Add(1) }

// gated is pair, where plain connections come in at a by an ingress.
func gated(t *testing.T) (a, b *host, g *gate) {
	t.Helper()
	a, b = pair(t, echo)
	g = &gate{}
	ln := a.listen("127.0.0.1:0")
	a.front = ln.Addr().String()
	a.services["ingress/a"] = a.mesh.svid(identity.ServiceID(td, "ingress/a"))
	named := policy.NewTable(policy.Allow, []policy.Intention{{Source: "ingress/a", Destination: "db", Action: policy.Allow}})
	for _, h := range []*host{a, b} {
		h.table.Store(named)
		h.with(func() { h.grants[[2]identity.Name{"a", "ingress/a"}] = true })
	}
	ctx, cancel := context.WithCancel(context.Background())
	door, err := accept.NewTCP(ln)
	if err != nil {
		t.Fatal(err)
	}
	a.served.Go(func() { _ = a.ServeEntry(ctx, door, g) })
	t.Cleanup(cancel)
	return a, b, g
}

// speak makes a connection and waits until the program has answered.
func (h *host) speak() *net.TCPConn {
	h.t.Helper()
	c := h.call()
	_, _ = c.Write([]byte("x"))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		h.t.Fatal(err)
	}
	return c
}

// TestEntry: what comes in at an ingress is carried with its identity, and ended
// when the ingress is gone or the policy has changed.
func TestEntry(t *testing.T) {
	for name, change := range map[string]func(a, b *host, g *gate) *host{
		"gone":         func(a, _ *host, g *gate) *host { g.gone.Store(true); return a },
		"denied here":  func(a, _ *host, _ *gate) *host { a.table.Store(allow); return a }, // the default lets no ingress in
		"denied there": func(_, b *host, _ *gate) *host { b.table.Store(allow); return b },
		"grant is gone": func(_, b *host, _ *gate) *host {
			b.with(func() { delete(b.grants, [2]identity.Name{"a", "ingress/a"}) })
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b, g := gated(t)
			c := a.speak()
			client := netip.MustParseAddrPort(c.LocalAddr().String())
			for _, h := range []*host{a, b} {
				if all := h.Flows(); len(all) != 1 || all[0].Source != "ingress/a" || all[0].Client != client {
					t.Errorf("live: %+v", all)
				}
			}
			if a.Sweep()+b.Sweep() != 0 {
				t.Error("a sweep without a change cut something")
			}
			if cut := change(a, b, g).Sweep(); cut != 1 {
				t.Errorf("%d cut", cut)
			}
			_ = c.SetReadDeadline(time.Now().Add(8 * time.Second))
			wantReset(t, c)
			if f := a.lastFlow(1); f.End != policy.ReasonChanged {
				t.Errorf("ended with %q", f.End)
			}
			a.wantRefused([]byte("secret"))
			eventually(t, "both to leave", func() bool { return g.let.Load() == 2 && g.left.Load() == 2 })
		})
	}
}

// TestEntryRefuses: a connection that an entry doesn't let in gets no further, and
// doesn't leave.
func TestEntryRefuses(t *testing.T) {
	a, b, g := gated(t)
	g.full.Store(true)
	a.wantRefused([]byte("secret"))
	if f := a.lastFlow(1); f.End != policy.ReasonLimit || f.Source != "ingress/a" || f.Destination != "db" {
		t.Errorf("%+v", f)
	}
	if len(b.ended) > 0 || g.left.Load() != 0 {
		t.Errorf("there: %+v; %d left", b.ended, g.left.Load())
	}
}

// TestIngressImpostor: a node that proves an ingress, or claims one, without a grant
// for it reaches no program.
func TestIngressImpostor(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(a, b *host)
		want policy.Reason
	}{
		"proven, no grant":        {func(_, b *host) { delete(b.grants, [2]identity.Name{"a", "ingress/a"}) }, policy.ReasonGrant},
		"another ingress's proof": {func(a, _ *host) { a.services["ingress/a"] = a.mesh.svid(identity.ServiceID(td, "ingress/b")) }, policy.ReasonProof},
		"the service of the name": {func(a, _ *host) { a.services["ingress/a"] = a.mesh.svid(identity.ServiceID(td, "a")) }, policy.ReasonProof},
	} {
		t.Run(name, func(t *testing.T) {
			a, b, _ := gated(t)
			a.with(func() { b.with(func() { c.set(a, b) }) })
			a.wantRefused([]byte("secret"))
			for _, h := range []*host{a, b} {
				if f := h.lastFlow(1); f.End != c.want || f.DialledFrom.IsValid() {
					t.Errorf("on %s: %+v", h.name, f)
				}
			}
		})
	}
}

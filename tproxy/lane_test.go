// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"io"
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

// settle waits until the loops have done what they were given.
func (h *host) settle() {
	for _, t := range h.threads {
		done := make(chan struct{})
		if t.Do(func() { close(done) }) {
			<-done
		}
	}
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
		if len(lanes) != 1 || lanes[0].Streams != n+1 || !lanes[0].Dialled || lanes[0].Peer != b.cfg.Node {
			t.Fatalf("after %d connections: lanes %+v", n+1, lanes)
		}
	}
	if lanes := b.Lanes(); len(lanes) != 1 || lanes[0].Dialled || len(lanes[0].Proven) != 1 {
		t.Errorf("lanes there: %+v", lanes)
	}
	a.lanes.Upkeep(time.Now().Add(a.cfg.IdleTimeout - time.Second))
	a.settle()
	if n := len(a.Lanes()); n != 1 {
		t.Errorf("%d lanes before the idle limit", n)
	}
	a.lanes.Upkeep(time.Now().Add(a.cfg.IdleTimeout + time.Second))
	a.settle()
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

// provenUntil reports whether the peer has proven itself, and the service of the only
// stream, for longer than that.
func provenUntil(h *host, end time.Time) bool {
	h.lanes.Upkeep(time.Now())
	l := h.Lanes()[0]
	return l.Ends.After(end) && len(l.Proven) == 1 && l.Proven[0].Ends.After(end)
}

// TestCertificates: a busy lane proves renewed certificates and outlives the
// old ones; one without a renewed proof is cut; a sweep cuts that of a revoked
// node.
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
	longer, later := a.mesh.longer(), old.Add(time.Minute)
	for _, h := range []*host{a, b} {
		h.node.Store(longer.svid(h.cfg.Node))
		h.with(func() {
			for name := range h.services {
				h.services[name] = longer.svid(identity.ServiceID(td, name))
			}
		})
	}
	eventually(t, "both to prove themselves and their services anew", func() bool {
		return provenUntil(a, later) && provenUntil(b, later)
	})
	a.lanes.Upkeep(later)
	b.lanes.Upkeep(later)
	a.settle()
	b.settle()
	if err := answer(); err != nil {
		t.Fatalf("after the first certificates' end: %v", err)
	}
	a.lanes.Upkeep(later.Add(2 * time.Hour))
	wantReset(t, c)
	if f := a.lastFlow(1); f.End != policy.ReasonExpired {
		t.Errorf("ended with %q", f.End)
	}
	ask(t, a)
	b.with(func() { b.revoked = true })
	b.Sweep()
	eventually(t, "the lane to be gone", func() bool { return len(b.Lanes()) == 0 })
}

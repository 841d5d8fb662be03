// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"crypto/x509"
	"testing"
	"time"

	"tacit/identity"
)

// TestStaleLane: an idle lane past half life isn't used, and ends.
func TestStaleLane(t *testing.T) {
	a, b := pair(t)
	a.ask(b.port, "db")
	old := a.one()
	old.mu.Lock()
	older := *old.nodes.Chain()[0]
	older.NotBefore = older.NotBefore.Add(-2 * time.Hour)
	old.nodes.Renewed([]*x509.Certificate{&older}, older.NotBefore, a.Bundle())
	old.mu.Unlock()
	a.ask(b.port, "db")
	a.lanes(2)
	a.Upkeep(time.Now())
	a.lanes(1)
	if a.one() == old {
		t.Error("a stale lane was used again")
	}
}

// TestProvenOnce: a lane carries one stream after another, and each service is
// proven on it once.
func TestProvenOnce(t *testing.T) {
	a, b := pair(t)
	for n, destination := range []identity.Name{"db", "db", "cache", "db", "cache"} {
		a.ask(b.port, destination)
		if lanes := a.List(); len(lanes) != 1 || lanes[0].Streams != n+1 {
			t.Fatalf("after %d streams: lanes %+v", n+1, lanes)
		}
	}
	if seen, sent := a.one().services.Proofs(); seen != 2 || sent != 1 {
		t.Errorf("%d proofs seen, %d sent; want 2 and 1", seen, sent)
	}
	if seen, sent := b.one().services.Proofs(); seen != 1 || sent != 2 {
		t.Errorf("%d proofs seen there, %d sent; want 1 and 2", seen, sent)
	}
	if n := len(b.List()[0].Proven); n != 1 {
		t.Errorf("%d services are listed", n)
	}
}

// TestServicesAreProvenAnew on a stream that outlives their certificates. (TestForged: too
// many proofs at once break the lane; trust.TestTally: they may go on for ever.)
func TestServicesAreProvenAnew(t *testing.T) {
	a, b := pair(t)
	stream := a.held(b.port, "db")
	there, here := b.one(), a.one()
	for n := range 10 {
		a.renew("web")
		b.renew("db")
		a.Upkeep(time.Now())
		b.Upkeep(time.Now())
		stream.await("both proofs", func() bool {
			return keyOf(there, "web") == a.keyOf("web") && keyOf(here, "db") == b.keyOf("db")
		})
		stream.send("x")
		stream.await("the echo", func() bool { return len(stream.got) == n+2 })
	}
}

func (h *host) keyOf(n identity.Name) identity.KeyID {
	s, _ := h.ServiceSVID(n)
	return s.Key.ID()
}

func keyOf(l *lane, service identity.Name) (k identity.KeyID) {
	if p := l.of(service); len(p.Keys) > 0 {
		k = p.Keys[0]
	}
	return k
}

// TestNodesAreProvenAnew on a lane whose stream outlives the node certificates.
func TestNodesAreProvenAnew(t *testing.T) {
	a, b := pair(t)
	stream := a.held(b.port, "db")
	next := a.mesh.svid(a.node.ID)
	a.mu.Lock()
	a.node = next
	a.mu.Unlock()
	a.Upkeep(time.Now())
	there := b.one()
	stream.await("the new certificate", func() bool {
		there.mu.Lock()
		defer there.mu.Unlock()
		return there.nodes.Chain()[0].Equal(next.Chain[0])
	})
	stream.send("y")
	stream.await("the echo", func() bool { return string(stream.got) == "xy" })
}

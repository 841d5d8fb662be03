// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/policy"
	"tacit/tproxy/lane/trust"
)

// list is which keys are revoked.
type list struct {
	mu   sync.Mutex
	keys map[identity.KeyID]bool
}

func (l *list) add(k identity.KeyID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[k] = true
}

func (l *list) check(_ identity.ID, chain []identity.KeyID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range chain {
		if l.keys[k] {
			return errors.New("revoked")
		}
	}
	return nil
}

// judged is pair, where one of the two has a list of revoked keys.
func judged(t *testing.T, at string) (a, b *host, gone *list) {
	t.Helper()
	testhost.VerifyNone(t)
	gone = &list{keys: map[identity.KeyID]bool{}}
	m, here, there := newMesh(t), Config{}, Config{}
	if at == "a" {
		here.Check = gone.check
	} else {
		there.Check = gone.check
	}
	return m.host(here, "a", "web"), m.host(there, "b", "db", "cache"), gone
}

// TestRevokedServiceKey: a proof by a revoked key is refused, also of another
// certificate for the same key, and its live stream is cut, whichever end holds it.
func TestRevokedServiceKey(t *testing.T) {
	for _, c := range []struct {
		name  string
		key   func(a, b *host) identity.KeyID
		judge string
	}{
		{"the caller's", func(a, _ *host) identity.KeyID { return a.keyOf("web") }, "b"},
		{"the destination's", func(_, b *host) identity.KeyID { return b.keyOf("db") }, "a"},
		{"the authority's", func(a, _ *host) identity.KeyID { return a.mesh.auth.Key().ID() }, "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b, gone := judged(t, c.judge)
			judge := map[string]*host{"a": a, "b": b}[c.judge]
			stream := a.held(b.port, "db")
			judge.Recheck()
			if lanes := judge.List(); len(lanes) != 1 || len(lanes[0].Proven) != 1 {
				t.Fatalf("before: %+v", lanes)
			}
			gone.add(c.key(a, b))
			judge.Recheck()
			if why := stream.why(); why != policy.ReasonRevoked && why != policy.ReasonLane {
				t.Errorf("the stream ended with %q", why)
			}
			if c.name == "the authority's" {
				judge.lanes(0) // no certificate is left
				return
			}
			for h, n := range map[*host]identity.Name{a: "web", b: "db"} {
				h.mu.Lock()
				h.services[n] = &identity.SVID{ID: h.services[n].ID, Chain: a.mesh.again(h.services[n]), Key: h.services[n].Key}
				h.mu.Unlock()
			}
			if err := a.refused(b.port, "db"); err == nil || policy.ReasonOf(err, "") == policy.ReasonProtocol {
				t.Errorf("with another certificate for the revoked key: %v", err)
			}
			a.renew("web")
			b.renew("db")
			a.ask(b.port, "db")
		})
	}
}

// refused opens a stream, and returns why it was refused.
func (h *host) refused(to Peer, destination identity.Name) error {
	h.t.Helper()
	c, err := h.call(to, destination, "x", false)
	if err != nil {
		return err
	}
	return policy.Refuse(c.why(), "%v", c.lost)
}

// again is another certificate for the same key: other serial number, other
// signature, other times, by a re-encoded intermediate.
func (m *mesh) again(s *identity.SVID) []*x509.Certificate {
	m.t.Helper()
	leaf := *s.Chain[0]
	leaf.SerialNumber, leaf.NotAfter = big.NewInt(time.Now().UnixNano()), leaf.NotAfter.Add(-time.Minute)
	der, err := x509.CreateCertificate(rand.Reader, &leaf, m.auth.Intermediate(), s.Chain[0].PublicKey, m.auth.Key().Signer())
	testhost.Must(m.t, err)
	other, err := x509.ParseCertificate(der)
	testhost.Must(m.t, err)
	return []*x509.Certificate{other, m.auth.Intermediate()}
}

// TestRevokedBeforeItIsTaken: a stream that arrived before its source was revoked, and
// is taken afterwards, is over.
func TestRevokedBeforeItIsTaken(t *testing.T) {
	testhost.VerifyNone(t)
	gone := &list{keys: map[identity.KeyID]bool{}}
	m := newMesh(t)
	a := m.host(Config{}, "a", "web")
	admitted, release := make(chan struct{}), make(chan struct{})
	user := &caller{}
	b := m.host(Config{Check: gone.check, Accept: func(in *Arrival) {
		if in.Proven() != nil || in.Prove() != nil {
			panic("the source isn't proven")
		}
		close(admitted)
		<-release
		in.Loop().Do(func() { in.Attach(user) })
	}}, "b", "db")
	user.h = b
	stream, err := a.call(b.port, "db", "secret", false)
	testhost.Must(t, err)
	<-admitted
	gone.add(a.keyOf("web"))
	b.Recheck()
	if why := stream.why(); why != policy.ReasonRevoked {
		t.Errorf("the stream ended with %q", why)
	}
	close(release)
	if why := user.why(); why != policy.ReasonRevoked || len(user.calls) != 1 {
		t.Errorf("its user: %q, %q", why, user.calls)
	}
}

// TestStreamsEndWithTheirServices: five seconds after a service's certificate has
// ended, a stream of it does, and not before; others on the lane go on.
func TestStreamsEndWithTheirServices(t *testing.T) {
	for name, at := range map[string]func(a, b *host) (*host, identity.Name){
		"the caller's":      func(_, b *host) (*host, identity.Name) { return b, "web" },
		"the destination's": func(a, _ *host) (*host, identity.Name) { return a, "db" },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			judge, service := at(a, b)
			stream, other := a.held(b.port, "db"), a.held(b.port, "cache")
			l := judge.one()
			id := identity.ServiceID(td, service)
			p := l.services.Of(id)
			p.To = time.Now().Add(-trust.ExpiryGrace + 2*UpkeepPeriod) // its end was that long ago
			l.services.Learn(id, p)
			judge.on(func() { l.upkeep(time.Now()) })
			stream.send("y")
			stream.await("the echo", func() bool { return string(stream.got) == "xy" })
			testhost.Eventually(t, 5*time.Second, "the stream is over", func() error {
				judge.Upkeep(time.Now())
				stream.mu.Lock()
				defer stream.mu.Unlock()
				if stream.lost == nil {
					return errors.New("it isn't")
				}
				return nil
			})
			if why := stream.why(); why != policy.ReasonExpired {
				t.Errorf("the stream ended with %q", why)
			}
			if service == "db" {
				other.send("y")
				other.await("the echo", func() bool { return string(other.got) == "xy" })
			}
			a.lanes(1)
		})
	}
}

// TestRevokedNode: every lane with a node is cut.
func TestRevokedNode(t *testing.T) {
	a, b := pair(t)
	stream := a.held(b.port, "db")
	b.Revoke("a")
	if why := stream.why(); why != policy.ReasonLane {
		t.Errorf("the stream ended with %q", why)
	}
	b.lanes(0)
	if b.Cut()[policy.ReasonRevoked] != 1 {
		t.Errorf("counted %v", b.Cut())
	}
}

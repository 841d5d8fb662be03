// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"context"
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

// held opens a stream and returns it with one byte carried both ways.
func (h *host) held(to Peer, destination identity.Name) *End {
	h.t.Helper()
	rest := "x"
	c, err := h.Open(context.Background(), to, Opening{Source: "web", Destination: destination, Port: 5432}, first(&rest))
	testhost.Must(h.t, err)
	h.t.Cleanup(c.Close)
	if rest != "" {
		testhost.Must(h.t, c.Write(new(Block), 1))
	}
	b, _, err := c.Read()
	testhost.Must(h.t, err)
	h.cfg.Blocks.Put(b)
	return c
}

// ends is why a stream ends on which nothing is sent any more.
func (c *End) ends(t *testing.T) policy.Reason {
	t.Helper()
	timer := time.AfterFunc(10*time.Second, c.Interrupt)
	defer timer.Stop()
	b, _, err := c.Read()
	if err == nil {
		c.l.blocks.Put(b)
		t.Error("bytes came instead of an end")
	}
	return policy.ReasonOf(err, "none")
}

// TestRevokedServiceKey: a proof by a revoked key is refused, also of another
// certificate for the same key, and its live stream is cut, whichever end holds it.
func TestRevokedServiceKey(t *testing.T) {
	for _, c := range []struct {
		name string
		key  func(a, b *host) identity.KeyID
		at   func(a, b *host) *host // the node that judges
	}{
		{"the caller's", func(a, _ *host) identity.KeyID { return a.services["web"].Key.ID() }, func(_, b *host) *host { return b }},
		{"the destination's", func(_, b *host) identity.KeyID { return b.services["db"].Key.ID() }, func(a, _ *host) *host { return a }},
		{"the authority's", func(a, _ *host) identity.KeyID { return a.mesh.auth.Key().ID() }, func(_, b *host) *host { return b }},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t)
			gone, judge := &list{keys: map[identity.KeyID]bool{}}, c.at(a, b)
			judge.cfg.Check = gone.check
			stream := a.held(b.port, "db")
			judge.Recheck()
			if streams := judge.List(); len(streams) != 1 || len(streams[0].Proven) != 1 {
				t.Fatalf("before: %+v", streams)
			}
			gone.add(c.key(a, b))
			judge.Recheck()
			if why := stream.ends(t); why != policy.ReasonRevoked && why != policy.ReasonLane {
				t.Errorf("the stream ended with %q", why)
			}
			if c.name == "the authority's" {
				return // no certificate is left
			}
			for _, s := range []*identity.SVID{a.services["web"], b.services["db"]} {
				s.Chain = a.mesh.again(s)
			}
			rest := "x"
			if _, err := a.Open(t.Context(), b.port, Opening{Source: "web", Destination: "db"}, first(&rest)); err == nil || policy.ReasonOf(err, "") == policy.ReasonProtocol {
				t.Errorf("with another certificate for the revoked key: %v", err)
			}
			a.services["web"], b.services["db"] = a.mesh.svid(a.services["web"].ID), b.mesh.svid(b.services["db"].ID)
			a.ask(b.port, "db")
		})
	}
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

// TestStreamsEndWithTheirServices: five seconds after a service's certificate has
// ended, a stream of it does, and not before.
func TestStreamsEndWithTheirServices(t *testing.T) {
	for name, at := range map[string]func(a, b *host) (*host, identity.Name){
		"the caller's":      func(_, b *host) (*host, identity.Name) { return b, "web" },
		"the destination's": func(a, _ *host) (*host, identity.Name) { return a, "db" },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			judge, service := at(a, b)
			stream := a.held(b.port, "db")
			judge.all()[0].mu.Lock()
			end := judge.all()[0].theirs[identity.ServiceID(td, service)].to
			judge.all()[0].mu.Unlock()
			l := judge.all()[0]
			for _, c := range []struct {
				after time.Duration
				want  policy.Reason
			}{{-time.Second, ""}, {expiryGrace - 2*UpkeepPeriod, ""}, {expiryGrace - UpkeepPeriod + time.Millisecond, policy.ReasonExpired}} {
				if got := l.lapsed(end.Add(c.after)); got != c.want {
					t.Errorf("%s after the end: %q, want %q", c.after, got, c.want)
				}
			}
			l.abort(policy.ReasonExpired)
			if why := stream.ends(t); why != policy.ReasonExpired && why != policy.ReasonLane {
				t.Errorf("the stream ended with %q", why)
			}
		})
	}
}

// TestServicesAreProvenAnew on a stream that outlives their certificates, as often as
// they are renewed. (TestForged: too many proofs at once break the lane.)
func TestServicesAreProvenAnew(t *testing.T) {
	a, b := pair(t)
	stream := a.held(b.port, "db")
	there, here := b.all()[0], a.all()[0]
	proven := func(l *lane, service identity.Name) identity.KeyID { return l.of(service).keys[0] }
	for range maxProofs + 10 {
		for h, service := range map[*host]identity.Name{a: "web", b: "db"} {
			h.services[service] = a.mesh.svid(h.services[service].ID)
		}
		a.Upkeep(time.Now())
		b.Upkeep(time.Now())
		a.Wait()
		b.Wait()
		testhost.Must(t, stream.Write(new(Block), 1)) // its echo follows both proofs
		blk, _, err := stream.Read()
		testhost.Must(t, err)
		a.cfg.Blocks.Put(blk)
		if want := a.services["web"].Key.ID(); proven(there, "web") != want {
			t.Fatalf("web is proven by %s, want %s", proven(there, "web"), want)
		}
		if want := b.services["db"].Key.ID(); proven(here, "db") != want {
			t.Fatalf("db is proven by %s, want %s", proven(here, "db"), want)
		}
		for _, l := range []*lane{here, there} { // as if a renewal's time had passed
			l.mu.Lock()
			l.seen.at = l.seen.at.Add(-2 * renewalPause)
			l.shown.at = l.shown.at.Add(-2 * renewalPause)
			l.mu.Unlock()
		}
	}
}

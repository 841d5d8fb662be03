// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"tacit/identity"
	"tacit/policy"
)

// renewalPause is the least time between two proofs of the peer's node certificate.
const renewalPause = 300 * time.Millisecond

// trust is what the two ends of a lane have proven to each other. The lane's
// mutex guards it.
type trust struct {
	own        *x509.Certificate   // this node's leaf that was last proven to the peer
	ownStale   time.Time           // when own passes its half life: see stale
	chain      []*x509.Certificate // the peer's chain that was last proven to us
	chainStale time.Time
	renewed    time.Time                           // when the peer last renewed its proof
	bundle     *identity.Bundle                    // that verified chain
	retired    time.Time                           // when chain's root was found to be retired; zero: it is trusted
	theirs     map[identity.ID]proven              // services that the peer has proven
	ours       map[identity.Name]*x509.Certificate // service leaves that we have proven to the peer
	seen       tally                               // service proofs received
	shown      tally                               // service proofs sent
}

func newTrust(own *x509.Certificate, chain []*x509.Certificate, now time.Time, bundle *identity.Bundle) trust {
	return trust{own: own, ownStale: stale(own, now), chain: chain, chainStale: stale(chain[0], now), bundle: bundle,
		theirs: map[identity.ID]proven{}, ours: map[identity.Name]*x509.Certificate{}, seen: tally{at: now}, shown: tally{at: now}}
}

// stale is when a lane should be replaced by one with newer certificates: at the
// certificate's half life or, if it was older when it was proven, halfway between
// then and its end, so that lanes are still reused while no authority is there to
// renew certificates.
func stale(leaf *x509.Certificate, proven time.Time) time.Time {
	if half := between(leaf.NotBefore, leaf.NotAfter); proven.Before(half) {
		return half
	}
	return between(proven, leaf.NotAfter)
}

func between(a, b time.Time) time.Time { return a.Add(b.Sub(a) / 2) }

func (t *trust) staleAt() time.Time {
	if t.ownStale.Before(t.chainStale) {
		return t.ownStale
	}
	return t.chainStale
}

// endsAt is when the lane is cut unless the peer renews its proof.
func (t *trust) endsAt() time.Time {
	end := t.chain[0].NotAfter
	if !t.retired.IsZero() && t.retired.Before(end) {
		end = t.retired
	}
	return end.Add(expiryGrace)
}

// proof makes the frame that proves a certificate of this node on this lane.
func (l *lane) proof(role identity.Role, s *identity.SVID) ([]byte, error) {
	p, err := identity.Prove(s, role, l.channel)
	if err != nil {
		return nil, err
	}
	payload, err := encodeProof(role, p)
	if err != nil {
		return nil, err
	}
	return appendFrame(nil, kindProve, 0, payload), nil
}

func (l *lane) breach(format string, args ...any) error {
	l.abort(policy.ReasonProtocol)
	return policy.Refuse(policy.ReasonProtocol, format, args...)
}

// renew verifies a new proof of the peer's node certificate.
func (l *lane) renew(p identity.Proof) error {
	now, bundle := time.Now(), l.cfg.Identities.Bundle()
	l.mu.Lock()
	early := now.Sub(l.renewed) < renewalPause
	l.renewed = now
	l.mu.Unlock()
	if early {
		return l.breach("node certificate proven too often")
	}
	id, chain, err := p.Verify(bundle, identity.RoleNode, l.channel, now)
	switch {
	case err == nil && id != l.peer:
		err = fmt.Errorf("%s isn't the node of this lane", id)
	case err == nil && l.cfg.Check != nil:
		err = l.cfg.Check(id, identity.ChainKeys(chain))
	}
	if err != nil {
		l.abort(policy.ReasonProof)
		return policy.Refuse(policy.ReasonProof, "%s: %v", l.peer, err)
	}
	if chain, err = parseAll(p.Chain); err != nil {
		return l.breach("%v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.chain, l.chainStale, l.bundle, l.retired = chain, stale(chain[0], now), bundle, time.Time{}
	return nil
}

// parseAll copies what it parses: a certificate refers to its bytes for as long as
// it lives, and those of a frame are overwritten by the next one.
func parseAll(ders [][]byte) (chain []*x509.Certificate, err error) {
	for _, der := range ders {
		c, e := x509.ParseCertificate(bytes.Clone(der))
		err = errors.Join(err, e)
		chain = append(chain, c)
	}
	return chain, err
}

// outdated says whether the lane is busy and this node's certificate was renewed
// after it was proven on it. An idle lane is replaced instead.
func (l *lane) outdated() bool {
	s := l.cfg.Identities.NodeSVID()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.busy && !l.broken && s.Chain[0] != l.own
}

// reprove proves this node's renewed certificate to the peer.
func (l *lane) reprove(now time.Time) {
	s := l.cfg.Identities.NodeSVID()
	l.mu.Lock()
	known := l.own == s.Chain[0]
	l.own, l.ownStale = s.Chain[0], stale(s.Chain[0], now)
	l.mu.Unlock()
	if known {
		return
	}
	frame, err := l.proof(identity.RoleNode, s)
	if err == nil {
		err = l.send(frame)
	}
	if err != nil {
		l.cfg.Log.Warn("renewed node certificate not proven", "peer", l.peer, "err", err)
	}
}

// recheck calls cfg.Check again for the peer's certificate, and for those of services.
func (l *lane) recheck() error {
	if l.cfg.Check == nil {
		return nil
	}
	l.mu.Lock()
	chain := l.chain
	l.mu.Unlock()
	if err := l.cfg.Check(l.peer, identity.ChainKeys(chain)); err != nil {
		return err
	}
	return l.recheckServices()
}

// expired says whether expiryGrace has passed since the peer's last proven node
// certificate ended or its root was retired.
func (l *lane) expired(now time.Time) bool {
	bundle := l.cfg.Identities.Bundle()
	l.mu.Lock()
	defer l.mu.Unlock()
	if bundle != l.bundle {
		l.bundle, l.retired = bundle, time.Time{}
		if _, err := bundle.Verify(withoutRoot(l.chain), earlier(now, l.chain[0].NotAfter)); err != nil {
			l.retired = now
		}
	}
	return now.After(l.endsAt())
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// withoutRoot drops a root at the end of a chain: peers may send it.
func withoutRoot(chain []*x509.Certificate) []*x509.Certificate {
	if n := len(chain); n > 1 && chain[n-1].CheckSignatureFrom(chain[n-1]) == nil {
		return chain[:n-1]
	}
	return chain
}

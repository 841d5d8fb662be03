// SPDX-License-Identifier: Apache-2.0

// Package trust has what the two ends of a lane have proven to each other, and how long
// it counts. It must not verify or make a proof, nor know a connection.
package trust

import (
	"bytes"
	"crypto/x509"
	"errors"
	"time"

	"tacit/identity"
)

const (
	// ExpiryGrace is the time from the end of a lane's last proven node certificate to
	// the lane's end.
	ExpiryGrace = 5 * time.Second
	// RenewalPause is the least time between two proofs of the peer's node certificate.
	RenewalPause = 300 * time.Millisecond
)

// Nodes are the node certificates of both ends. Its user guards it with a lock.
type Nodes struct {
	own        *x509.Certificate   // this node's leaf that was last proven to the peer
	ownStale   time.Time           // when own passes its half life: see stale
	chain      []*x509.Certificate // the peer's chain that was last proven to us
	chainStale time.Time
	renewed    time.Time        // when the peer last renewed its proof
	bundle     *identity.Bundle // that verified chain
	retired    time.Time        // when chain's root was found to be retired; zero: it is trusted
}

// NewNodes is what the handshake has proven.
func NewNodes(own *x509.Certificate, chain []*x509.Certificate, now time.Time, bundle *identity.Bundle) Nodes {
	return Nodes{own: own, ownStale: stale(own, now), chain: chain, chainStale: stale(chain[0], now), bundle: bundle}
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

// Stale says whether the lane should be replaced.
func (n *Nodes) Stale(now time.Time) bool {
	return !now.Before(n.ownStale) || !now.Before(n.chainStale)
}

// Ends is when the lane is cut unless the peer renews its proof.
func (n *Nodes) Ends() time.Time {
	end := n.chain[0].NotAfter
	if !n.retired.IsZero() {
		end = earlier(end, n.retired)
	}
	return end.Add(ExpiryGrace)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Chain is the peer's.
func (n *Nodes) Chain() []*x509.Certificate { return n.chain }

// Renewing notes that the peer renews its proof; false: too soon after the last time.
func (n *Nodes) Renewing(now time.Time) bool {
	early := now.Sub(n.renewed) < RenewalPause
	n.renewed = now
	return !early
}

// Renewed takes the peer's new chain, which bundle has verified.
func (n *Nodes) Renewed(chain []*x509.Certificate, now time.Time, bundle *identity.Bundle) {
	n.chain, n.chainStale, n.bundle, n.retired = chain, stale(chain[0], now), bundle, time.Time{}
}

// Knows says whether this node's leaf was proven to the peer.
func (n *Nodes) Knows(leaf *x509.Certificate) bool { return n.own == leaf }

// Shown notes that this node's leaf is proven to the peer.
func (n *Nodes) Shown(leaf *x509.Certificate, now time.Time) {
	n.own, n.ownStale = leaf, stale(leaf, now)
}

// Expired says whether ExpiryGrace has passed since the peer's last proven certificate
// ended or its root was retired.
func (n *Nodes) Expired(now time.Time, bundle *identity.Bundle) bool {
	if bundle != n.bundle {
		n.bundle, n.retired = bundle, time.Time{}
		if _, err := bundle.Verify(withoutRoot(n.chain), earlier(now, n.chain[0].NotAfter)); err != nil {
			n.retired = now
		}
	}
	return now.After(n.Ends())
}

// withoutRoot drops a root at the end of a chain: peers may send it.
func withoutRoot(chain []*x509.Certificate) []*x509.Certificate {
	if n := len(chain); n > 1 && chain[n-1].CheckSignatureFrom(chain[n-1]) == nil {
		return chain[:n-1]
	}
	return chain
}

// ParseAll copies what it parses: a certificate refers to its bytes for as long as
// it lives, and those of a frame are overwritten by the next one.
func ParseAll(ders [][]byte) (chain []*x509.Certificate, err error) {
	for _, der := range ders {
		c, e := x509.ParseCertificate(bytes.Clone(der))
		err = errors.Join(err, e)
		chain = append(chain, c)
	}
	return chain, err
}

// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"fmt"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/lane/frame"
	"tacit/tproxy/lane/message"
	"tacit/tproxy/lane/trust"
)

// trusted is what both ends have proven to each other; the lane's mutex guards it.
type trusted struct {
	nodes    trust.Nodes
	services *trust.Services // with a lock of its own
}

// proof makes the payload that proves a certificate of this node on this lane.
func (l *lane) proof(role identity.Role, s *identity.SVID) ([]byte, error) {
	p, err := identity.Prove(s, role, l.channel)
	if err != nil {
		return nil, err
	}
	return message.EncodeProof(role, p)
}

// broken is the error of a breach of the protocol.
func broken(format string, args ...any) error {
	return policy.Refuse(policy.ReasonProtocol, format, args...)
}

// renew verifies a new proof of the peer's node certificate.
func (l *lane) renew(p identity.Proof) error {
	now, bundle := time.Now(), l.cfg.Identities.Bundle()
	l.mu.Lock()
	inTime := l.nodes.Renewing(now)
	l.mu.Unlock()
	if !inTime {
		return broken("node certificate proven too often")
	}
	id, chain, err := p.Verify(bundle, identity.RoleNode, l.channel, now)
	switch {
	case err == nil && id != l.peer:
		err = fmt.Errorf("%s isn't the node of this lane", id)
	case err == nil && l.cfg.Check != nil:
		err = l.cfg.Check(id, identity.ChainKeys(chain))
	}
	if err != nil {
		return policy.Refuse(policy.ReasonProof, "%s: %v", l.peer, err)
	}
	if chain, err = trust.ParseAll(p.Chain); err != nil {
		return broken("%v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes.Renewed(chain, now, bundle)
	return nil
}

// outdated says whether the lane carries something and this node's certificate was
// renewed after it was proven on it. A lane that carries nothing is replaced instead.
func (l *lane) outdated() bool {
	s := l.cfg.Identities.NodeSVID()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.live > 0 && !l.broken && !l.nodes.Knows(s.Chain[0])
}

// reprove proves this node's renewed certificate to the peer.
func (l *lane) reprove(now time.Time) {
	s := l.cfg.Identities.NodeSVID()
	l.mu.Lock()
	known := l.nodes.Knows(s.Chain[0])
	l.nodes.Shown(s.Chain[0], now)
	l.mu.Unlock()
	if known {
		return
	}
	proof, err := l.proof(identity.RoleNode, s)
	if err != nil {
		l.cfg.Log.Warn("renewed node certificate not proven", "peer", l.peer, "err", err)
		return
	}
	l.loop.Do(func() { l.send(frame.Prove, 0, proof) })
}

// recheck calls cfg.Check again for the peer's certificate, and cuts the streams of
// services whose certificates no longer count.
func (l *lane) recheck() error {
	if l.cfg.Check == nil {
		return nil
	}
	l.mu.Lock()
	chain := l.nodes.Chain()
	l.mu.Unlock()
	if err := l.cfg.Check(l.peer, identity.ChainKeys(chain)); err != nil {
		return err
	}
	if bad := l.recheckServices(); len(bad) > 0 {
		l.cfg.Log.Warn("streams cut", "peer", l.peer, "services", bad)
		l.loop.Do(func() { l.cut(bad, policy.ReasonRevoked, "the service's key was revoked") })
	}
	return nil
}

// expired says whether the peer's last proven node certificate counts no more.
func (l *lane) expired(now time.Time) bool {
	bundle := l.cfg.Identities.Bundle()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nodes.Expired(now, bundle)
}

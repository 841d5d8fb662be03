// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"fmt"
	"maps"
	"time"

	"tacit/identity"
	"tacit/policy"
)

const (
	maxProofs    = 64                         // of services at once, per lane and direction: see tally
	serviceGrace = expiryGrace - UpkeepPeriod // so that a stream ends within expiryGrace after its service's certificate
)

// proven is what the peer has proven of a service. No more is kept of its
// certificate, since parsed certificates are large and there are many lanes.
type proven struct {
	from, to time.Time        // the certificate's life
	keys     []identity.KeyID // of its chain
	bad      error            // why it doesn't count: a key was revoked
}

func (p proven) holds(now time.Time) bool { return p.bad == nil && !now.After(p.to) }

// tally counts proofs. It forgets one each pause, so that a lane can live on with
// ever new certificates, and yet no peer can have many proofs verified.
type tally struct {
	n  int
	at time.Time // up to when it has forgotten
}

// add counts one more, unless there were too many.
func (t *tally) add(now time.Time, pause time.Duration) bool {
	past := max(0, now.Sub(t.at)/pause)
	t.n, t.at = max(0, t.n-int(past)), t.at.Add(past*pause)
	if t.n >= maxProofs {
		return false
	}
	t.n++
	return true
}

// service makes the frame that proves a service of this node. It makes none if
// this certificate is proven on the lane already, unless again is set.
func (l *lane) service(role identity.Role, name identity.Name, again bool) ([]byte, error) {
	s, err := l.cfg.Identities.ServiceSVID(name)
	if err != nil {
		return nil, policy.Refuse(policy.ReasonProof, "service %s: %v", name, err)
	}
	l.mu.Lock()
	known := l.ours[name] == s.Chain[0] && !again
	full := !known && !l.shown.add(time.Now(), 2*renewalPause) // slower than the peer forgets
	if !full {
		l.ours[name] = s.Chain[0]
	}
	l.mu.Unlock()
	if known {
		return nil, nil
	}
	if full {
		return nil, policy.Refuse(policy.ReasonLimit, "more than %d proofs on one lane", maxProofs)
	}
	frame, err := l.proof(role, s)
	if err != nil {
		return nil, policy.Refuse(policy.ReasonProof, "service %s: %v", name, err)
	}
	return frame, nil
}

// learn verifies a proof of the peer's. A service's proof that isn't valid is
// logged and has no effect; any other fault breaks the lane.
func (l *lane) learn(payload []byte) (identity.ID, error) {
	role, p, err := decodeProof(payload)
	if err != nil {
		return identity.ID{}, l.breach("%v", err)
	}
	if role == identity.RoleNode {
		return l.peer, l.renew(p)
	}
	if (role == identity.RoleServer) != l.dialled {
		return identity.ID{}, l.breach("a proof in role %d, which is this end's", role)
	}
	now := time.Now()
	if !l.count(now) {
		return identity.ID{}, l.breach("more than %d proofs on one lane", maxProofs)
	}
	id, chain, err := p.Verify(l.cfg.Identities.Bundle(), role, l.channel, now)
	if err != nil {
		l.cfg.Log.Warn("proof refused", "peer", l.peer, "err", err)
		return identity.ID{}, nil
	}
	this := proven{from: chain[0].NotBefore, to: chain[0].NotAfter, keys: identity.ChainKeys(chain)}
	if l.cfg.Check != nil {
		this.bad = l.cfg.Check(id, this.keys)
	}
	if this.bad != nil {
		l.cfg.Log.Warn("proof refused", "peer", l.peer, "err", this.bad)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.theirs[id] = this
	return id, nil
}

func (l *lane) count(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen.add(now, renewalPause)
}

// of returns what the peer has proven of a service.
func (l *lane) of(name identity.Name) proven {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.theirs[identity.ServiceID(l.cfg.Node.TrustDomain(), name)]
}

// proven says whether the peer has proven the service by a certificate that is
// still valid. soon: less than an eighth of its life is left, so ask for a new
// proof.
func (l *lane) proven(name identity.Name, now time.Time) (ok, soon bool) {
	p := l.of(name)
	if !p.holds(now) {
		return false, false
	}
	return true, p.to.Sub(now) < p.to.Sub(p.from)/8
}

// unproven is the refusal of a service that the peer hasn't proven.
func (l *lane) unproven(name identity.Name) error {
	if p := l.of(name); p.bad != nil {
		return policy.Refuse(policy.ReasonRevoked, "node %s: %v", l.peer.Name(), p.bad)
	}
	return policy.Refuse(policy.ReasonProof, "node %s hasn't proven %s on this lane", l.peer.Name(), name)
}

// behind returns the service of this node that is to be proven anew: the current
// stream's, where its certificate was renewed after it was proven. The next stream
// on an idle lane proves its services by itself.
func (l *lane) behind() (name identity.Name, ok bool) {
	l.mu.Lock()
	name, shown, busy := l.here, l.ours[l.here], l.busy && !l.broken
	l.mu.Unlock()
	if !busy || shown == nil {
		return name, false
	}
	s, err := l.cfg.Identities.ServiceSVID(name)
	return name, err == nil && s.Chain[0] != shown
}

// reproveService proves the renewed certificate of a service to the peer.
func (l *lane) reproveService(name identity.Name) {
	role := identity.RoleServer
	if l.dialled {
		role = identity.RoleClient
	}
	frame, err := l.service(role, name, false)
	if err == nil && frame != nil {
		err = l.send(frame)
	}
	if err != nil {
		l.cfg.Log.Warn("renewed service certificate not proven", "service", name, "peer", l.peer, "err", err)
	}
}

// lapsed forgets the proofs by certificates that have ended, and says why the
// current stream must end: it is of such a service.
func (l *lane) lapsed(now time.Time) (why policy.Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, p := range l.theirs {
		if !now.After(p.to.Add(serviceGrace)) {
			continue
		}
		delete(l.theirs, id)
		if l.carries(id) {
			why = policy.ReasonExpired
		}
	}
	return why
}

// carries says whether the current stream is of this service of the peer's.
func (l *lane) carries(id identity.ID) bool {
	return l.busy && id == identity.ServiceID(l.cfg.Node.TrustDomain(), l.there)
}

// recheckServices calls cfg.Check again for what the peer has proven, and returns
// why the current stream must end. Check is called without the lane's mutex.
func (l *lane) recheckServices() (why error) {
	l.mu.Lock()
	all := maps.Clone(l.theirs)
	l.mu.Unlock()
	for id, p := range all {
		if p.bad != nil {
			continue
		}
		if p.bad = l.cfg.Check(id, p.keys); p.bad != nil && l.bar(id, p) {
			why = fmt.Errorf("its stream: %w", p.bad)
		}
	}
	return why
}

// bar notes that a proof no longer counts, unless it was renewed meanwhile, and says
// whether the current stream rests on it.
func (l *lane) bar(id identity.ID, p proven) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.theirs[id]; len(now.keys) == 0 || now.keys[0] != p.keys[0] {
		return false
	}
	l.theirs[id] = p
	return l.carries(id)
}

// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"fmt"
	"slices"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/lane/frame"
	"tacit/tproxy/lane/message"
	"tacit/tproxy/lane/trust"
)

// service makes the payload that proves a service of this node; nil if its certificate
// is proven on the lane already. l.proving must be held until it is queued.
func (l *lane) service(role identity.Role, name identity.Name) ([]byte, error) {
	s, err := l.cfg.Identities.ServiceSVID(name)
	if err != nil {
		return nil, policy.Refuse(policy.ReasonProof, "service %s: %v", name, err)
	}
	must, full := l.services.Show(name, s.Chain[0], role == identity.RoleServer, time.Now())
	if full {
		return nil, policy.Refuse(policy.ReasonLimit, "more than %d proofs on one lane", trust.MaxProofs)
	}
	if !must {
		return nil, nil
	}
	proof, err := l.proof(role, s)
	if err != nil {
		return nil, policy.Refuse(policy.ReasonProof, "service %s: %v", name, err)
	}
	return proof, nil
}

// show proves a service of this node to the peer.
func (l *lane) show(role identity.Role, name identity.Name) error {
	l.proving.Lock()
	defer l.proving.Unlock()
	proof, err := l.service(role, name)
	if err == nil && proof != nil {
		l.loop.Do(func() { l.send(frame.Prove, 0, proof) })
	}
	return err
}

// learn verifies a proof of the peer's. A service's proof that isn't valid is logged
// and has no effect; any other fault is an error that ends the lane.
func (l *lane) learn(payload []byte) error {
	role, p, err := message.DecodeProof(payload)
	if err != nil {
		return broken("%v", err)
	}
	if role == identity.RoleNode {
		return l.renew(p)
	}
	if (role == identity.RoleServer) != l.dialled {
		return broken("a proof in role %d, which is this end's", role)
	}
	now := time.Now()
	if !l.services.Count(now) {
		return broken("more than %d proofs on one lane", trust.MaxProofs)
	}
	id, chain, err := p.Verify(l.cfg.Identities.Bundle(), role, l.channel, now)
	if err != nil {
		l.cfg.Log.Warn("proof refused", "peer", l.peer, "err", err)
		return nil
	}
	this := trust.Proven{From: chain[0].NotBefore, To: chain[0].NotAfter, Keys: identity.ChainKeys(chain)}
	if l.cfg.Check != nil {
		this.Bad = l.cfg.Check(id, this.Keys)
	}
	if this.Bad != nil {
		l.cfg.Log.Warn("proof refused", "peer", l.peer, "err", this.Bad)
	}
	l.services.Learn(id, this)
	return nil
}

// of returns what the peer has proven of a service.
func (l *lane) of(name identity.Name) trust.Proven {
	return l.services.Of(identity.ServiceID(l.cfg.Node.TrustDomain(), name))
}

// proven says whether the peer has proven the service by a certificate that is
// still valid. soon: less than an eighth of its life is left, so ask for a new
// proof.
func (l *lane) proven(name identity.Name, now time.Time) (ok, soon bool) {
	p := l.of(name)
	ok = p.Holds(now)
	return ok, ok && p.EndsSoon(now)
}

// unproven is the refusal of a service that the peer hasn't proven.
func (l *lane) unproven(name identity.Name) *policy.Refusal {
	if p := l.of(name); p.Bad != nil {
		return &policy.Refusal{Reason: policy.ReasonRevoked, Detail: fmt.Sprintf("node %s: %v", l.peer.Name(), p.Bad)}
	}
	return &policy.Refusal{Reason: policy.ReasonProof, Detail: fmt.Sprintf("node %s hasn't proven %s on this lane", l.peer.Name(), name)}
}

// reprove proves the services of live streams whose certificates were renewed after
// they were proven. It is called on the loop; signing is done in a goroutine.
func (l *lane) reproveServices() {
	names := map[identity.Name]bool{}
	for _, st := range l.streams {
		names[st.here] = true
	}
	role := identity.RoleServer
	if l.dialled {
		role = identity.RoleClient
	}
	for name := range names {
		if l.behind(name) {
			l.work.Go(func() { l.reproveService(role, name) })
		}
	}
}

// behind says whether a service that is proven on the lane has a newer certificate.
func (l *lane) behind(name identity.Name) bool {
	leaf := l.services.Shown(name)
	if leaf == nil {
		return false
	}
	s, err := l.cfg.Identities.ServiceSVID(name)
	return err == nil && s.Chain[0] != leaf
}

func (l *lane) reproveService(role identity.Role, name identity.Name) {
	if err := l.show(role, name); err != nil {
		l.cfg.Log.Warn("renewed service certificate not proven", "service", name, "peer", l.peer, "err", err)
	}
}

// cut ends the streams of services of the peer's, those too that nobody has taken yet.
func (l *lane) cut(services []identity.ID, why policy.Reason, detail string) {
	for _, st := range l.streams {
		if (st.opened || !l.dialled) && slices.Contains(services, identity.ServiceID(l.cfg.Node.TrustDomain(), st.there)) {
			l.send(frame.Reset, st.id, []byte(why))
			st.lose(&policy.Refusal{Reason: why, Detail: detail})
		}
	}
}

// recheckServices calls cfg.Check again for what the peer has proven, and returns
// the services that no longer count. Check is called without the lane's mutex.
func (l *lane) recheckServices() (bad []identity.ID) {
	for id, p := range l.services.Theirs() {
		if p.Bad != nil {
			continue
		}
		if p.Bad = l.cfg.Check(id, p.Keys); p.Bad != nil && l.services.Bar(id, p) {
			bad = append(bad, id)
		}
	}
	return bad
}

// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"maps"

	"tacit/identity"
)

type keySet map[identity.KeyID]bool

// trust says which keys may sign what. It is derived from the records of operators,
// revocations and authorities alone.
type trust struct {
	vouched     keySet // operators that the root hasn't revoked, even if another operator has
	revoked     keySet
	operators   keySet
	authorities keySet // keys of intermediates
}

// counts reports whether a record's signer may sign it; a record is merged only if
// it counts. Records of operators and revocations still count after their signer's
// revocation: otherwise the order of revocations would matter.
func (l *View) counts(e *entry) bool {
	signer, t := e.Dot.Signer, &l.view.trust
	switch e.Kind {
	case KindRoot:
		return signer == l.root
	case KindOperator, KindRevocation:
		return signer == l.root || t.vouched[signer]
	case KindAuthority:
		return signer == l.root || t.operators[signer]
	case KindMember:
		return t.authorities[signer] && !t.revoked[e.sub]
	case KindGrant, KindIntention, KindResolver:
		return t.operators[signer]
	case KindNode, KindInstance, KindFloor:
		key, ok := l.view.memberKeys[nodeOf(e.Key)]
		return ok && key == signer
	}
	return false
}

// isTrust reports whether a change of this kind changes who may sign what.
func isTrust(k Kind) bool { return ranks[k] <= ranks[KindAuthority] }

// deriveTrust computes trust. The root's revocations determine the vouched keys, those
// the revoked keys, and both the operators, so there is no cycle. Authorities need
// the heads of their cells; rebuild adds them.
func (l *Ledger) deriveTrust() trust {
	t := trust{revoked: keySet{}, authorities: keySet{}}
	byRoot := keySet{}
	l.eachSigned(KindRevocation, func(id, signer identity.KeyID) {
		if signer == l.root {
			byRoot[id] = true
		}
	})
	t.vouched = l.chain(byRoot)
	l.eachSigned(KindRevocation, func(id, signer identity.KeyID) {
		if signer == l.root || t.vouched[signer] {
			t.revoked[id] = true
		}
	})
	t.operators = l.chain(t.revoked)
	return t
}

// chain returns the operators that are reachable from the root without an excluded
// key in between.
func (l *View) chain(excluded keySet) keySet {
	made := map[identity.KeyID][]identity.KeyID{}
	l.eachSigned(KindOperator, func(id, signer identity.KeyID) {
		made[signer] = append(made[signer], id)
	})
	found := keySet{}
	for next := []identity.KeyID{l.root}; len(next) > 0; next = next[1:] {
		for _, id := range made[next[0]] {
			if !found[id] && !excluded[id] && id != l.root {
				found[id] = true
				next = append(next, id)
			}
		}
	}
	return found
}

// Root returns the key on which all trust rests.
func (l *View) Root() identity.KeyID { return l.root }

// StaysOperator reports whether a key would be an operator's if others were revoked:
// what rests on those alone no longer counts.
func (l *View) StaysOperator(id identity.KeyID, without []identity.KeyID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	excluded := maps.Clone(l.view.revoked)
	for _, other := range without {
		excluded[other] = true
	}
	return l.chain(excluded)[id]
}

// eachSigned calls f for every record of a kind whose key is a KeyID.
func (l *View) eachSigned(k Kind, f func(id, signer identity.KeyID)) {
	for key, c := range l.cells[k] {
		var id identity.KeyID
		if id.UnmarshalText([]byte(key)) != nil {
			continue
		}
		for s := range c.slots {
			f(id, s.signer)
		}
	}
}

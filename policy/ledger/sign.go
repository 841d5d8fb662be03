// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"tacit/identity"
)

// Sign makes a record that supersedes all heads of its key, and merges it. The
// body of a delete isn't used. The caller keeps the record and passes it on.
// Errors: ErrNotAuthorized, ErrRevoked, ErrNameTaken, ErrBody, ErrMalformed,
// ErrLimit.
func (l *Ledger) Sign(key *identity.Key, kind Kind, recKey string, body any, del bool) (Record, error) {
	l.merging.Lock()
	defer l.merging.Unlock()
	e, err := l.prepare(key, Record{Kind: kind, Key: recKey, Delete: del}, body)
	if err != nil {
		return Record{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put(e)
	l.settle()
	return e.Record, nil
}

// Prepare is Sign without the merge: for records that must be on disk first,
// and for grants in tokens. Its number is used up; a number whose record
// outlives this process without being merged must be given to Reserve after a
// restart.
func (l *Ledger) Prepare(key *identity.Key, kind Kind, recKey string, body any) (Record, error) {
	l.merging.Lock()
	defer l.merging.Unlock()
	e, err := l.prepare(key, Record{Kind: kind, Key: recKey}, body)
	if err != nil {
		return Record{}, err
	}
	return e.Record, nil
}

// PrepareDelete is Prepare for a delete; the body isn't used.
func (l *Ledger) PrepareDelete(key *identity.Key, kind Kind, recKey string, _ any) (Record, error) {
	l.merging.Lock()
	defer l.merging.Unlock()
	e, err := l.prepare(key, Record{Kind: kind, Key: recKey, Delete: true}, nil)
	if err != nil {
		return Record{}, err
	}
	return e.Record, nil
}

// Reserve makes sure that no number up to d.Seq is given to a record of d's
// signer: for records that Prepare made and nobody has merged yet.
func (l *Ledger) Reserve(d Dot) {
	l.merging.Lock()
	defer l.merging.Unlock()
	l.reserved[d.Signer] = max(l.reserved[d.Signer], d.Seq)
}

// prepare fills in and signs r, which has a kind, a key and the delete mark.
func (l *Ledger) prepare(key *identity.Key, r Record, body any) (*entry, error) {
	r.Signer = key.Public()
	if !r.Delete {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBody, err)
		}
		r.Body = text
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	seq := max(l.seen[key.ID()].Max(), l.reserved[key.ID()]) + 1
	if seq > math.MaxInt64 {
		return nil, fmt.Errorf("%w: the key has no numbers left; use a new key", ErrLimit)
	}
	r.Dot = Dot{key.ID(), seq}
	r.Supersedes = l.toSupersede(r)
	e, err := l.open(r)
	if err != nil {
		return nil, err
	}
	if err := l.maySign(e); err != nil {
		return nil, err
	}
	if e.Signature, err = key.Sign(signContext, e.message(l.trustDomain)); err != nil {
		return nil, fmt.Errorf("sign %s %q: %w", r.Kind, r.Key, err)
	}
	l.reserved[key.ID()] = seq
	return e, nil
}

// toSupersede returns the dots of all that a cell holds: the heads, and what
// those supersede or a revocation voids, so that the new record stands by
// itself. A node names its own only. Of more than the limit, those that count
// come first; a key that over 64 operators in force have written stays in
// conflict, where a deny still wins.
func (l *Ledger) toSupersede(r Record) []Dot {
	var counting, void []Dot
	if c := l.cells[r.Kind][r.Key]; c != nil {
		for s, e := range c.slots {
			switch {
			case ownKind(r.Kind) && s.signer != r.Dot.Signer:
			case l.counts(e):
				counting = append(counting, e.Dot)
			default:
				void = append(void, e.Dot)
			}
		}
	}
	slices.SortFunc(counting, compareDots)
	slices.SortFunc(void, compareDots)
	dots := append(counting, void...)
	return dots[:min(len(dots), maxSupersedes)]
}

// maySign is admit, and stricter where a signer must not cause what Merge has
// to put up with: operators that are none any more, and two keys for one name.
func (l *Ledger) maySign(e *entry) error {
	signer, t := e.Dot.Signer, &l.view.trust
	if t.revoked[signer] {
		return fmt.Errorf("%w: %s", ErrRevoked, signer.Short())
	}
	if t.vouched[signer] && !t.operators[signer] {
		return fmt.Errorf("%w: who made %s an operator is revoked; have the root or an operator do it again", ErrNotAuthorized, signer.Short())
	}
	if err := l.admit(e); err != nil {
		return err
	}
	if c := l.cells[e.Kind][e.Key]; c != nil && e.Kind == KindMember && !e.Delete {
		other := func(id identity.KeyID) bool { return id != e.sub }
		if slices.ContainsFunc(keysOf(c.heads), other) {
			return fmt.Errorf("%w: %s", ErrNameTaken, e.Key)
		}
	}
	return nil
}

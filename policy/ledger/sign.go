// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"encoding/json"
	"fmt"
	"slices"

	"tacit/identity"
)

// Sign makes a record that supersedes all heads of its key, and merges it. The body
// of a delete is ignored. The caller stores and sends the record.
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
	l.refreshDirty()
	return e.Record, nil
}

// Prepare is Sign without the merge, for records that must be on disk first and for
// grants in tokens. The record's sequence number is used up. If the record isn't
// merged before a restart, call Reserve with its dot afterwards.
func (l *Ledger) Prepare(key *identity.Key, kind Kind, recKey string, body any) (Record, error) {
	l.merging.Lock()
	defer l.merging.Unlock()
	e, err := l.prepare(key, Record{Kind: kind, Key: recKey}, body)
	if err != nil {
		return Record{}, err
	}
	return e.Record, nil
}

// PrepareDelete is Prepare for a delete; the body is ignored.
func (l *Ledger) PrepareDelete(key *identity.Key, kind Kind, recKey string, _ any) (Record, error) {
	l.merging.Lock()
	defer l.merging.Unlock()
	e, err := l.prepare(key, Record{Kind: kind, Key: recKey, Delete: true}, nil)
	if err != nil {
		return Record{}, err
	}
	return e.Record, nil
}

// Reserve prevents that a new record of d's signer gets a sequence number up to
// d.Seq, for records of Prepare that aren't merged yet.
func (l *Ledger) Reserve(d Dot) {
	l.merging.Lock()
	defer l.merging.Unlock()
	l.reserved[d.Signer] = max(l.reserved[d.Signer], d.Seq)
}

// prepare completes and signs r, which has a kind, a key and the delete mark.
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
	var err error
	if r.Dot, err = l.next(key.ID()); err != nil {
		return nil, err
	}
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
	l.given[key.ID()] = r.Dot.Seq
	l.reserved[key.ID()] = max(l.reserved[key.ID()], r.Dot.Seq)
	return e, nil
}

// maySign is admit, and also refuses what Merge must tolerate from others: records
// of former operators, and a second key for one name.
func (l *Ledger) maySign(e *entry) error {
	signer, t := e.Dot.Signer, &l.view.trust
	if t.revoked[signer] {
		return fmt.Errorf("%w: %s", ErrRevoked, signer.Short())
	}
	if t.vouched[signer] && !t.operators[signer] {
		return fmt.Errorf("%w: the operator that authorised %s is revoked; let the root or another operator authorise it again", ErrNotAuthorized, signer.Short())
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

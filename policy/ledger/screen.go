// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"slices"
)

// screen does what costs most of a merge without the lock of writers, so that a flood
// of forged records delays no change: it checks the form, drops what is held, stale,
// over quota or by an unknown signer, and only then verifies signatures. Records that
// others of the batch may authorise are left to be verified when they are.
func (l *Ledger) screen(recs []Record) (pending []*entry, rejected []Rejection) {
	entries, rejected := l.openAll(l.withoutHeld(recs))
	var g group
	l.mu.RLock()
	for _, e := range entries {
		g.add(e, l.admit(e))
	}
	l.mu.RUnlock()
	sound, forged := l.verify(g.taken)
	for _, e := range sound {
		e.verified = true
	}
	return append(sound, g.waiting...), slices.Concat(rejected, g.rejected, forged)
}

// withoutHeld drops records that are held as they are, which is nearly all that an
// exchange of full state brings, before anything is parsed.
func (l *Ledger) withoutHeld(recs []Record) []Record {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(recs), func(r Record) bool { return l.cells[r.Kind][r.Key].holds(&r) })
}

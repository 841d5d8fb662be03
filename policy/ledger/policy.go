// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"crypto/sha256"
	"slices"
)

// PolicyDigest returns a hash over the heads of intentions and resolvers, deletes
// included. It tells apart two times at which the same policy was in force by
// different records.
func (l *View) PolicyDigest() [32]byte {
	l.mu.RLock()
	var all [][]byte
	for _, kind := range []Kind{KindIntention, KindResolver} {
		for _, c := range l.cells[kind] {
			for _, e := range c.heads {
				all = append(all, e.hash[:])
			}
		}
	}
	l.mu.RUnlock()
	slices.SortFunc(all, slices.Compare)
	h := sha256.New()
	for _, sum := range all {
		h.Write(sum)
	}
	return [32]byte(h.Sum(nil))
}

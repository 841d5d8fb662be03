// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"slices"

	"tacit/identity"
	"tacit/policy/ledger/statement"
)

// What one node key may make other nodes hold by its node and instance records,
// deletes included. The cost of a record is at least the memory, and the bytes of an
// exchange, that it takes.
const (
	maxUsage   = 4 << 20
	recordCost = 2048 // of a record without key, body and superseded dots
	dotCost    = 128  // of a dot, in JSON
	pairCost   = 128  // of a tag, or a pair of meta data, in memory
)

// maxDropped limits what is remembered for Dropped.
const maxDropped = 1 << 16

func cost(e *entry) int {
	if e == nil {
		return 0
	}
	n := recordCost + 2*len(e.Key) + 2*len(e.Body) + dotCost*len(e.Supersedes)
	if i, is := e.body.(statement.Instance); is {
		n += pairCost * (len(i.Tags) + len(i.Meta))
	}
	return n
}

// Full reports whether a node has no room left for a large record.
func (l *View) Full(node identity.Name) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.usage[l.view.memberKeys[node]]+recordCost+2*maxKey+2*maxBody > maxUsage
}

// forget notes that a record is not held any more.
func (l *Ledger) forget(e *entry) {
	if len(l.dropped) < maxDropped { // the next start finds the others again
		l.dropped = append(l.dropped, e.ID())
	}
}

// Dropped returns the IDs of the records that were replaced since the last call, for
// the caller to delete once what Merge returned is stored: where that fails, the next
// Restore finds them again.
func (l *Ledger) Dropped() []string {
	l.merging.Lock()
	defer l.merging.Unlock()
	out := l.dropped
	l.dropped = nil
	return out
}

// Held returns those of the records that are still held.
func (l *View) Held(recs []Record) []Record {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(recs), func(r Record) bool { return !l.cells[r.Kind][r.Key].holds(&r) })
}

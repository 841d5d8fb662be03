// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"tacit/identity"
)

// Rejection is a record that Merge refused. Err wraps one of the errors of this
// package. A record that is held already is neither changed nor rejected.
type Rejection struct {
	Record Record
	Err    error
}

// errHeld marks a record that is held already.
var errHeld = errors.New("held")

// Merge takes the records whose signatures verify and whose signers may sign them,
// according to the records held and the rest of the batch, in any order. The caller
// must store and send changed, and forget what Dropped returns then.
// The records must not be changed afterwards.
func (l *Ledger) Merge(recs []Record) (changed []Record, rejected []Rejection) {
	pending, rejected := l.screen(recs)
	l.merging.Lock()
	defer l.merging.Unlock()
	slices.SortFunc(pending, mergeOrder)
	for progress := true; progress && len(pending) > 0; {
		progress = false
		var waiting []*entry
		for _, group := range byKind(pending) {
			g := l.mergeGroup(group)
			changed = append(changed, records(g.taken)...)
			rejected = append(rejected, g.rejected...)
			waiting = append(waiting, g.waiting...)
			progress = progress || len(g.taken) > 0
		}
		pending = waiting
	}
	return changed, append(rejected, l.refused(pending)...)
}

// mergeOrder sorts records that authorise others before them, and a signer's newer
// record before the older ones, which then are stale at once. Revocations come last:
// what was signed again because of them must not be void in between.
func mergeOrder(a, b *entry) int {
	last := func(e *entry) int {
		if e.Kind == KindRevocation {
			return len(ranks)
		}
		return ranks[e.Kind] - 1
	}
	return cmp.Or(cmp.Compare(last(a), last(b)), cmp.Compare(a.Key, b.Key), compareDots(b.Dot, a.Dot),
		bytes.Compare(a.hash[:], b.hash[:]))
}

func byKind(sorted []*entry) [][]*entry {
	var groups [][]*entry
	for start := 0; start < len(sorted); {
		end := start
		for end < len(sorted) && sorted[end].Kind == sorted[start].Kind {
			end++
		}
		groups = append(groups, sorted[start:end])
		start = end
	}
	return groups
}

// group is the result for the records of one kind. Waiting records may become
// acceptable through other records of the batch.
type group struct {
	taken, waiting []*entry
	rejected       []Rejection
}

func (g *group) add(e *entry, err error) {
	switch {
	case err == nil:
		g.taken = append(g.taken, e)
	case errors.Is(err, ErrNotAuthorized), errors.Is(err, ErrRevoked):
		g.waiting = append(g.waiting, e)
	case !errors.Is(err, errHeld):
		g.rejected = append(g.rejected, Rejection{e.Record, err})
	}
}

// mergeGroup first drops what can't be admitted, then verifies signatures without
// blocking readers, then takes the remaining records, newest first.
func (l *Ledger) mergeGroup(entries []*entry) group {
	var first, g group
	l.mu.RLock()
	for _, e := range entries {
		first.add(e, l.admit(e))
	}
	l.mu.RUnlock()
	sound, forged := l.verify(first.taken)
	g.waiting, g.rejected = first.waiting, append(first.rejected, forged...)

	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range sound {
		err := l.admit(e)
		if err == nil {
			l.put(e)
		}
		g.add(e, err)
	}
	l.refreshDirty()
	return g
}

// admit returns why a record can't be taken, or nil. The caller holds mu for reading.
func (l *Ledger) admit(e *entry) error {
	c := l.cells[e.Kind][e.Key]
	at := c.at(e.slot())
	if at != nil && at.hash == e.hash {
		return errHeld
	}
	if !l.counts(e) {
		return l.refusal(e)
	}
	switch o := c.replacing(e); {
	case o != nil && o.Dot == e.Dot:
		return ErrEquivocation
	case o != nil:
		return fmt.Errorf("%w by its signer's record number %d", ErrStale, o.Dot.Seq)
	case l.below(e):
		return fmt.Errorf("%w by its node's floor", ErrStale)
	case ownKind(e.Kind) && l.usage[e.Dot.Signer]+cost(e)-cost(at) > maxUsage:
		return fmt.Errorf("%w: those of %s take %d MiB of the others' memory", ErrLimit, nodeOf(e.Key), maxUsage>>20)
	}
	return nil
}

func (l *Ledger) refusal(e *entry) error {
	if l.view.revoked[e.Dot.Signer] || e.Kind == KindMember && l.view.revoked[e.sub] {
		return ErrRevoked
	}
	return fmt.Errorf("%w: a %s record %q by key %s", ErrNotAuthorized, e.Kind, e.Key, e.Dot.Signer.Short())
}

func (l *Ledger) refused(waiting []*entry) []Rejection {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []Rejection
	for _, e := range waiting {
		out = append(out, Rejection{e.Record, l.refusal(e)})
	}
	return out
}

func ownKind(k Kind) bool { return k == KindNode || k == KindInstance || k == KindFloor }

// put puts a record in its slot. The views are stale until refreshDirty or rebuild.
func (l *Ledger) put(e *entry) {
	c := l.cell(e.Kind, e.Key)
	for _, old := range c.slots {
		if replaces(e, old) {
			l.drop(c, old)
		}
	}
	c.slots[e.slot()] = e
	if ownKind(e.Kind) {
		l.usage[e.Dot.Signer] += cost(e)
	}
	l.last[e.Dot.Signer] = max(l.last[e.Dot.Signer], e.Dot.Seq)
	l.dirty = append(l.dirty, e)
	if e.Kind == KindFloor {
		l.raise(e)
	}
}

// cell returns a cell, and creates it if it doesn't exist.
func (l *Ledger) cell(k Kind, key string) *cell {
	inner(l.cells, k)
	c := l.cells[k][key]
	if c == nil {
		c = &cell{slots: map[slot]*entry{}}
		l.cells[k][key] = c
		if k == KindInstance {
			l.byNode[nodeOf(key)] = append(l.byNode[nodeOf(key)], key)
		}
	}
	return c
}

// drop removes an entry from its slot.
func (l *Ledger) drop(c *cell, e *entry) {
	delete(c.slots, e.slot())
	if ownKind(e.Kind) {
		l.usage[e.Dot.Signer] -= cost(e)
	}
	l.forget(e)
}

// refreshDirty updates the views after put and drop.
func (l *Ledger) refreshDirty() {
	if slices.ContainsFunc(l.dirty, func(e *entry) bool { return isTrust(e.Kind) }) {
		l.rebuild()
		return
	}
	for _, e := range l.dirty {
		if c := l.cells[e.Kind][e.Key]; c != nil { // else it is below a floor
			l.refresh(e.Kind, e.Key, c)
		}
	}
	l.dirty = nil
}

// openAll checks the records' form, without a lock.
func (l *Ledger) openAll(recs []Record) (entries []*entry, rejected []Rejection) {
	for _, r := range recs {
		e, err := l.open(r)
		if err != nil {
			rejected = append(rejected, Rejection{r, err})
			continue
		}
		entries = append(entries, e)
	}
	return entries, rejected
}

func (l *Ledger) checkSignature(e *entry) error {
	return identity.VerifySignature(e.Signer, signContext, e.message(l.trustDomain), e.Signature)
}

// verify verifies signatures that aren't yet, on all processors, and keeps the order.
func (l *Ledger) verify(entries []*entry) (sound []*entry, forged []Rejection) {
	errs := make([]error, len(entries))
	var work sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(entries))
	for w := range workers {
		work.Go(func() {
			for i := w; i < len(entries); i += workers {
				e := entries[i]
				if e.verified {
					continue
				}
				errs[i] = l.check(e)
			}
		})
	}
	work.Wait()
	for i, e := range entries {
		if errs[i] != nil {
			forged = append(forged, Rejection{e.Record, fmt.Errorf("%w: %w", ErrSignature, errs[i])})
			continue
		}
		sound = append(sound, e)
	}
	return sound, forged
}

// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"tacit/identity"
)

// A dot's Seq is an epoch and, in its low bits, a counter that begins at 1. Each
// start of a signer has an epoch of its own, so that a disk that was rolled back
// doesn't give a number away twice. An epoch is a time in seconds and random bits: two
// starts from one image differ even if the clock was set back before what it knows.
const (
	counterBits = 16
	randomBits  = 14
	maxEpoch    = math.MaxInt64 >> counterBits
)

// Epoch returns the epoch of a start, which is later than the last one, unless that
// can't have been one.
func Epoch(now time.Time, random, last uint64) uint64 {
	if last > maxEpoch {
		last = 0
	}
	seconds := max(uint64(max(0, now.Unix())), last>>randomBits+1)
	return seconds<<randomBits | random&(1<<randomBits-1)
}

// maxLineage limits the epochs of its own signer that a record names.
const maxLineage = 32

func epochOf(seq uint64) uint64 { return seq >> counterBits }

func counterOf(seq uint64) uint64 { return seq & (1<<counterBits - 1) }

// isFloor reports whether a dot in Supersedes stands for everything of its signer
// before it: its counter is 0, which no record has.
func isFloor(d Dot) bool { return counterOf(d.Seq) == 0 }

// covers reports whether a list of superseded dots includes d: it names d, or a later
// number of the same signer and epoch, or a floor above d.
func covers(list []Dot, d Dot) bool {
	return slices.ContainsFunc(list, func(n Dot) bool {
		switch {
		case n.Signer != d.Signer || n.Seq < d.Seq:
			return false
		case isFloor(n):
			return true
		}
		return epochOf(n.Seq) == epochOf(d.Seq)
	})
}

// Begin opens a new epoch for every key: the given one (see Epoch), or one above all
// that is known of the key.
func (l *Ledger) Begin(epoch uint64) {
	l.merging.Lock()
	defer l.merging.Unlock()
	l.start = epoch
	clear(l.given)
}

// next returns the dot of a key's next record. A new epoch begins where another
// start of the same key shows up in between. The caller holds merging, and mu for
// reading.
func (l *Ledger) next(id identity.KeyID) (Dot, error) {
	known := max(l.last[id], l.reserved[id])
	if last := l.given[id]; last != 0 && known <= last && counterOf(last+1) != 0 {
		return Dot{id, last + 1}, nil
	}
	epoch := l.start
	if before := epochOf(known); before >= epoch {
		epoch = Epoch(time.Time{}, l.start, before)
	}
	if epoch > maxEpoch {
		return Dot{}, fmt.Errorf("%w: the key has no sequence numbers left; use a new key", ErrLimit)
	}
	return Dot{id, epoch<<counterBits | 1}, nil
}

// toSupersede returns the dots of all records in a cell: the heads, and those that
// are superseded or void, so that the new record is the only head. A node's records
// need none, since its latest one counts. The signer's own come first, then those that
// count; with more of them than the limit, by over 30 operators, the key stays in
// conflict, where deny still wins. What the signer's own records have superseded stays so,
// even if it isn't known here.
func (l *Ledger) toSupersede(r Record) []Dot {
	c := l.cells[r.Kind][r.Key]
	if c == nil || ownKind(r.Kind) {
		return nil
	}
	var own, counting, void, inherited []Dot
	for s, e := range c.slots {
		switch {
		case s.signer == r.Dot.Signer:
			mine, others := split(e.Supersedes, s.signer)
			own, inherited = append(append(own, e.Dot), mine...), append(inherited, others...)
		case l.counts(e):
			counting = append(counting, e.Dot)
		default:
			void = append(void, e.Dot)
		}
	}
	slices.SortFunc(counting, compareDots)
	slices.SortFunc(void, compareDots)
	dots := slices.Concat(lineage(own), counting, void)
	slices.SortFunc(inherited, func(a, b Dot) int { return cmp.Or(cmp.Compare(b.Seq, a.Seq), compareDots(a, b)) })
	for _, d := range inherited {
		if !covers(dots, d) {
			dots = append(dots, d)
		}
	}
	return dots[:min(len(dots), maxSupersedes)]
}

// split returns the dots of a signer, and those of others.
func split(dots []Dot, id identity.KeyID) (mine, others []Dot) {
	for _, d := range dots {
		if d.Signer == id {
			mine = append(mine, d)
		} else {
			others = append(others, d)
		}
	}
	return mine, others
}

// lineage shortens a signer's own dots: the last number of each epoch, and a floor
// instead of the oldest epochs.
func lineage(own []Dot) []Dot {
	slices.SortFunc(own, compareDots)
	var floor Dot
	var last []Dot
	for _, d := range own {
		n := len(last)
		switch {
		case isFloor(d):
			floor, last = d, nil
		case n > 0 && epochOf(last[n-1].Seq) == epochOf(d.Seq):
			last[n-1] = d
		default:
			last = append(last, d)
		}
	}
	if more := len(last) - maxLineage; more > 0 {
		floor = Dot{last[0].Signer, (epochOf(last[more-1].Seq) + 1) << counterBits}
		last = last[more:]
	}
	if floor.Seq > 0 {
		last = append([]Dot{floor}, last...)
	}
	return last
}

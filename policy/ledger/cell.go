// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"cmp"
	"slices"

	"tacit/identity"
	"tacit/policy"
)

// cell is all records held for one kind and key.
type cell struct {
	slots map[slot]*entry
	heads []*entry // the counting entries that no other supersedes
}

// at returns the entry of a slot, or nil; c may be nil.
func (c *cell) at(s slot) *entry {
	if c == nil {
		return nil
	}
	return c.slots[s]
}

// holds reports whether the cell has a record with the same statement; c may be nil. A
// push/pull brings mostly records that are held: they are neither parsed nor verified.
func (c *cell) holds(r *Record) bool {
	if c == nil {
		return false
	}
	for _, e := range c.slots {
		if e.Dot == r.Dot && e.Delete == r.Delete && bytes.Equal(e.Body, r.Body) && slices.Equal(e.Supersedes, r.Supersedes) {
			return true
		}
	}
	return false
}

// headsOf returns the entries that no other entry supersedes one-sidedly, sorted. If
// a cycle supersedes them all, all are heads.
func headsOf(counting []*entry) []*entry {
	heads := slices.Clone(counting)
	if len(heads) > 1 {
		heads = slices.DeleteFunc(heads, func(e *entry) bool {
			return slices.ContainsFunc(counting, func(o *entry) bool { return supersedes(o, e) && !supersedes(e, o) })
		})
	}
	if len(heads) == 0 {
		heads = slices.Clone(counting)
	}
	slices.SortFunc(heads, compareEntries)
	return heads
}

// supersedes reports whether o names e (see covers). A record
// that binds a key is superseded only by a delete or by a record that binds the same
// key, so that superseding can't take over a name.
func supersedes(o, e *entry) bool {
	if o == e || o.sub != e.sub && !o.Delete && !e.Delete {
		return false
	}
	return covers(o.Supersedes, e.Dot)
}

// replaces reports whether o takes e's place for good: it is later in e's slot, or
// supersedes e by the same signer, so that both count or neither does.
func replaces(o, e *entry) bool {
	switch {
	case o.Dot.Signer != e.Dot.Signer || o.sub != e.sub || o.Dot.Seq < e.Dot.Seq:
		return false
	case o.Dot.Seq == e.Dot.Seq:
		return compareTwins(o, e) < 0
	}
	return o.slot() == e.slot() || supersedes(o, e)
}

// compareTwins orders records with one dot, of which the first is kept: what refuses
// before what permits, then by hash.
func compareTwins(a, b *entry) int {
	return cmp.Or(cmp.Compare(permits(a), permits(b)), bytes.Compare(a.hash[:], b.hash[:]))
}

func permits(e *entry) int {
	i, is := e.body.(policy.Intention)
	switch {
	case e.Kind == KindRevocation, is && i.Action != policy.Allow:
		return 0
	case e.Delete && !ownKind(e.Kind):
		return 1
	}
	return 2
}

// replacing returns a record of the cell that replaces e, or nil; c may be nil.
func (c *cell) replacing(e *entry) *entry {
	if c == nil {
		return nil
	}
	for _, o := range c.slots {
		if replaces(o, e) {
			return o
		}
	}
	return nil
}

// winner returns the entry in force: nil if there are no heads, one is a delete, or
// they bind different keys.
func winner(heads []*entry) *entry {
	var win *entry
	for _, e := range heads {
		if e.Delete || win != nil && e.sub != win.sub {
			return nil
		}
		if win == nil || slices.Compare(e.hash[:], win.hash[:]) < 0 {
			win = e
		}
	}
	return win
}

// intentionOf returns the intention in force: deny wins, then delete, then allow.
func intentionOf(heads []*entry) (policy.Intention, bool) {
	var denies []*entry
	for _, e := range heads {
		if i, ok := e.body.(policy.Intention); ok && i.Action != policy.Allow {
			denies = append(denies, e)
		}
	}
	if len(denies) > 0 {
		heads = denies
	}
	win := winner(heads)
	if win == nil {
		return policy.Intention{}, false
	}
	return win.body.(policy.Intention), true
}

// keysOf returns the keys that the heads bind, or none if one is a delete.
func keysOf(heads []*entry) []identity.KeyID {
	var subs []identity.KeyID
	for _, e := range heads {
		if e.Delete {
			return nil
		}
		subs = append(subs, e.sub)
	}
	return subs
}

// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"slices"

	"tacit/identity"
	"tacit/policy"
)

// cell is all that is held about one kind and key.
type cell struct {
	slots map[slot]*entry
	heads []*entry // of the entries that count, the unsuperseded ones
}

// at returns what a slot holds; a nil cell holds nothing.
func (c *cell) at(s slot) *entry {
	if c == nil {
		return nil
	}
	return c.slots[s]
}

// headsOf returns the entries that none of the others supersedes one-sidedly,
// in order of dots. If each is superseded, round a circle, all are heads.
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

// supersedes reports whether o names e's dot or a later one of its signer. A
// record that binds a key gives way only to a delete or to one that binds the
// same key: nobody takes a name over by superseding.
func supersedes(o, e *entry) bool {
	if o == e || o.sub != e.sub && !o.Delete && !e.Delete {
		return false
	}
	return slices.ContainsFunc(o.Supersedes, func(d Dot) bool {
		return d.Signer == e.Dot.Signer && d.Seq >= e.Dot.Seq
	})
}

// winner returns what is in force: nil when the heads are none, hold a delete,
// or bind different keys.
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

// intentionOf decides the heads of an intention: deny, then delete, then allow.
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

// keysOf returns the keys that the heads bind, none when one is a delete.
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

// SPDX-License-Identifier: Apache-2.0

package ledger

import (
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

// supersedes reports whether o names e's dot or a later one of its signer. A record
// that binds a key is superseded only by a delete or by a record that binds the same
// key, so that superseding can't take over a name.
func supersedes(o, e *entry) bool {
	if o == e || o.sub != e.sub && !o.Delete && !e.Delete {
		return false
	}
	return slices.ContainsFunc(o.Supersedes, func(d Dot) bool {
		return d.Signer == e.Dot.Signer && d.Seq >= e.Dot.Seq
	})
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

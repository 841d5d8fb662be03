// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"slices"

	"tacit/identity"
	"tacit/policy/ledger/statement"
)

/*
A node's withdrawn instances stay as deletes, so that no older record brings them
back. Before they fill the node's room, it begins an epoch, signs again what it runs,
and signs a floor: all its instances before that epoch are gone. Others then drop
those, and refuse them for ever.
*/

// maxWithdrawn is the part of a node's room that its deletes may take before that.
const maxWithdrawn = maxUsage / 4

// Compaction prepares the records by which others forget what a node has withdrawn, or
// none while that takes little. The caller stores, merges and sends all of them.
func (l *Ledger) Compaction(key *identity.Key, node identity.Name) ([]Record, error) {
	return l.compaction(key, node, maxWithdrawn)
}

func (l *Ledger) compaction(key *identity.Key, node identity.Name, limit int) ([]Record, error) {
	l.merging.Lock()
	defer l.merging.Unlock()
	live, withdrawn := l.instancesOf(key.ID(), node)
	if withdrawn <= limit {
		return nil, nil
	}
	delete(l.given, key.ID()) // a new epoch
	var out []Record
	for _, e := range live {
		again, err := l.prepare(key, Record{Kind: e.Kind, Key: e.Key}, e.Body)
		if err != nil {
			return nil, err
		}
		out = append(out, again.Record)
	}
	floor, err := l.prepare(key, Record{Kind: KindFloor, Key: string(node)}, statement.Floor{Node: node})
	if err != nil {
		return nil, err
	}
	return append(out, floor.Record), nil
}

// instancesOf returns a node's instances, and the cost of those that are withdrawn.
func (l *Ledger) instancesOf(id identity.KeyID, node identity.Name) (live []*entry, withdrawn int) {
	for _, key := range l.byNode[node] {
		switch e := l.cells[KindInstance][key].at(slot{signer: id}); {
		case e == nil:
		case e.Delete:
			withdrawn += cost(e)
		default:
			live = append(live, e)
		}
	}
	return live, withdrawn
}

// below reports whether e is an instance before its node's floor.
func (l *View) below(e *entry) bool {
	return e.Kind == KindInstance && epochOf(e.Dot.Seq) < l.floors[e.Dot.Signer]
}

// raise applies a floor: it drops the instances below.
func (l *Ledger) raise(floor *entry) {
	signer, node := floor.Dot.Signer, nodeOf(floor.Key)
	l.floors[signer] = epochOf(floor.Dot.Seq)
	l.byNode[node] = slices.DeleteFunc(l.byNode[node], func(key string) bool {
		c := l.cells[KindInstance][key]
		if e := c.at(slot{signer: signer}); e != nil && l.below(e) {
			l.drop(c, e)
			l.refresh(KindInstance, key, c)
		}
		if len(c.slots) > 0 {
			return false
		}
		delete(l.cells[KindInstance], key)
		return true
	})
}

// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"fmt"
	"testing"

	"tacit/policy/ledger/statement"
)

// TestWithdrawnInstances: a node may run and withdraw any number of instances: what is
// withdrawn goes from all ledgers and disks and doesn't come back, in any order of
// arrival.
func TestWithdrawnInstances(t *testing.T) {
	m := newMesh(t)
	m.remember()
	c, peer, far := computers(m)
	founding := len(c.disk)
	c.boot(100)
	instance := func(id string) {
		c.make(m.n1, KindInstance, "n1/"+id, statement.Instance{Node: "n1", Service: "db", ID: id})
	}
	instance("stays")
	compacted := 0
	for n := range 1200 {
		id := fmt.Sprint(n)
		instance(id)
		c.make(m.n1, KindInstance, "n1/"+id, nil)
		if n == 100 {
			meet(c, far) // and not again until the end
		}
		recs, err := c.l.Compaction(m.n1, "n1")
		if err != nil {
			t.Fatal(err)
		}
		if len(recs) > 0 {
			compacted++
			c.take(recs)
			m.made = append(m.made, recs...)
		}
	}
	if compacted != 2 || len(c.l.Published("n1")) != 1 {
		t.Errorf("compacted %d times, published %v", compacted, c.l.Published("n1"))
	}
	for n := range m.made {
		peer.take(m.made[len(m.made)-1-n : len(m.made)-n])
	}
	meet(far, c, peer)
	for _, one := range []*computer{c, peer, far} {
		m.same(one.l, c.l)
		if n := len(one.disk) - founding; n > 600 || len(one.l.Published("n1")) != 1 {
			t.Errorf("%d records on disk, published %v", n, one.l.Published("n1"))
		}
		before := one.l.Digest()
		one.boot(300)
		one.take(m.made)
		if one.l.Digest() != before {
			t.Error("withdrawn instances come back")
		}
	}
	fresh := m.copyOf(c.l)
	for _, old := range m.made {
		if old.Kind == KindInstance && !old.Delete && old.Key == "n1/7" {
			m.refuses(fresh, old, ErrStale)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger/statement"
)

// computer is a node with a disk that can be copied and restored.
type computer struct {
	*mesh
	l    *Ledger
	disk keeper
	seen map[identity.KeyID]uint64
}

// boot starts a computer from its disk in an epoch.
func (c *computer) boot(epoch uint64) {
	c.Helper()
	c.l = c.empty()
	if err := c.l.Restore(c.disk.records(), c.seen); err != nil {
		c.Fatal(err)
	}
	c.l.Begin(epoch)
}

func (c *computer) save(changed ...Record) {
	c.disk.keep(c.l, changed)
	c.seen = c.l.Last()
}

// copyDisk returns what a roll-back brings back.
func (c *computer) copyDisk() (disk keeper, seen map[identity.KeyID]uint64) {
	return maps.Clone(c.disk), c.l.Last()
}

func (c *computer) make(k *identity.Key, kind Kind, key string, body any) Record {
	c.Helper()
	r := c.signOn(c.l, k, kind, key, body, body == nil)
	c.save(r)
	return r
}

// meet exchanges full states until nothing changes.
func meet(all ...*computer) {
	for again := true; again; {
		again = false
		for _, a := range all {
			for _, b := range all {
				again = b.take(a.l.Records()) || again
			}
		}
	}
}

func (c *computer) take(recs []Record) (news bool) {
	changed, _ := c.l.Merge(recs)
	c.save(changed...)
	return len(changed) > 0
}

// computers returns three that know the mesh.
func computers(m *mesh) (c, peer, far *computer) {
	all := make([]*computer, 3)
	for i := range all {
		all[i] = &computer{mesh: m, l: m.copyOf(m.l), disk: keeper{}}
		all[i].save(m.l.Records()...)
	}
	return all[0], all[1], all[2]
}

func intention(a policy.Action) policy.Intention {
	return policy.Intention{Source: "web", Destination: "db", Action: a}
}

// TestRollback: an operator's, a member's and an authority's disk are copied, then
// something is signed and spread, the copy is restored, and something else is signed,
// alone or with a part of the mesh. No rule is lost, in any order of merging.
func TestRollback(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	base := newMesh(t)
	base.remember()
	for n := range 200 {
		for name, roll := range map[string]func(*mesh, *rand.Rand) []*computer{
			"operator": rollOperator, "member": rollMember, "authority": rollAuthority,
		} {
			m := *base
			all := roll(&m, r)
			r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			meet(all...)
			for _, c := range all[1:] {
				m.same(all[0].l, c.l)
			}
			if t.Failed() {
				t.Fatalf("%s, roll-back %d", name, n)
			}
		}
	}
}

// rollOperator rolls back over a deny, and signs other things, among them an allow for
// the same pair; or the other way round.
func rollOperator(m *mesh, r *rand.Rand) []*computer {
	c, peer, far := computers(m)
	c.boot(100)
	c.make(m.op, KindIntention, "web>db", intention(policy.Allow))
	meet(c, peer, far)
	disk, seen := c.copyDisk()
	before, after := policy.Deny, policy.Allow
	if r.IntN(2) == 0 {
		before, after = after, before
	}
	for range 1 + r.IntN(3) {
		c.make(m.op, KindIntention, "web>db", intention(before))
	}
	meet(c, peer)

	c.disk, c.seen = disk, seen
	c.boot(uint64(50 + r.IntN(200))) // the clock may have gone back
	if r.IntN(2) == 0 {
		meet(c, far) // which has not heard of it
	}
	for range 1 + r.IntN(3) {
		c.make(m.op, KindIntention, "other>db", policy.Intention{Source: "other", Destination: "db", Action: policy.Deny})
		c.make(m.op, KindIntention, "web>db", intention(after))
	}
	orders := []*computer{c, peer, far}
	meet(orders[r.IntN(3)], orders[r.IntN(3)])
	meet(c, peer, far)
	for _, one := range orders {
		if action(one.l, "web", "db") != policy.Deny || action(one.l, "other", "db") != policy.Deny {
			m.Errorf("a deny is lost: %v", one.l.Intentions())
		}
	}
	settle := c.make(m.op, KindIntention, "web>db", intention(policy.Allow))
	m.takes(peer.l, settle)
	if action(peer.l, "web", "db") != policy.Allow || len(peer.l.Heads(KindIntention, "web>db")) != 1 {
		m.Error("the operator can't settle the conflict")
	}
	return orders
}

// rollMember rolls back over new instances, and publishes what runs now.
func rollMember(m *mesh, r *rand.Rand) []*computer {
	c, peer, far := computers(m)
	c.boot(100)
	publish := func(id string, port uint16) Record {
		return c.make(m.n1, KindInstance, "n1/"+id, statement.Instance{Node: "n1", Service: "db", ID: id, Port: port})
	}
	publish("a", 1)
	disk, seen := c.copyDisk()
	for n := range 1 + r.IntN(3) {
		publish("a", uint16(10+n))
		publish("b", uint16(20+n))
	}
	meet(c, peer)

	c.disk, c.seen = disk, seen
	c.boot(uint64(50 + r.IntN(100)))
	for n := range 1 + r.IntN(3) {
		publish("a", uint16(30+n))
		publish("c", uint16(40+n))
	}
	meet(c, peer, far)
	// What runs now, as reconcile.Publisher signs it when the records differ.
	publish("a", 50)
	c.make(m.n1, KindInstance, "n1/b", nil)
	publish("c", 60)
	meet(peer, far, c)
	for _, one := range []*computer{c, peer, far} {
		if got := fmt.Sprint(len(one.l.Published("n1")), one.l.Published("n1")[0].Port, one.l.Published("n1")[1].Port); got != "2 50 60" {
			m.Errorf("published %s", got)
		}
	}
	return []*computer{c, peer, far}
}

// rollAuthority rolls back over admissions.
func rollAuthority(m *mesh, r *rand.Rand) []*computer {
	c, peer, far := computers(m)
	c.boot(100)
	admit := func(node identity.Name, k *identity.Key) {
		c.make(m.auth, KindMember, string(node), statement.Member{Node: node, Public: k.Public()})
	}
	disk, seen := c.copyDisk()
	admit("n3", newKey(m))
	admit("n4", newKey(m))
	meet(c, peer)
	c.disk, c.seen = disk, seen
	c.boot(uint64(50 + r.IntN(200)))
	admit("n5", newKey(m))
	admit("n4", newKey(m)) // who has this name is open then
	meet(c, peer, far)
	for _, one := range []*computer{c, peer, far} {
		for node, want := range map[identity.Name]bool{"n1": true, "n2": true, "n3": true, "n4": false, "n5": true} {
			if _, is := one.l.Member(node); is != want {
				m.Errorf("%s is a member: %v", node, is)
			}
		}
	}
	return []*computer{c, peer, far}
}

// TestCollision: two starts have one epoch, as when a clock stands still, so that a
// number is used twice. No record is lost by that, and no deny becomes an allow.
func TestCollision(t *testing.T) {
	for n := range 60 {
		m := newMesh(t)
		c, peer, far := computers(m)
		disk, seen := c.copyDisk()
		c.boot(100)
		first := c.make(m.op, KindIntention, "web>db", intention(policy.Deny))
		meet(c, peer)
		c.disk, c.seen = disk, seen
		c.boot(100)
		cell, body := "other>db", policy.Intention{Source: "other", Destination: "db", Action: policy.Deny}
		if n%2 == 0 {
			cell, body = "web>db", intention(policy.Allow)
		}
		second := c.make(m.op, KindIntention, cell, body)
		if n%3 == 0 {
			c.make(m.op, KindIntention, "x>y", policy.Intention{Source: "x", Destination: "y", Action: policy.Deny})
		}
		if first.Dot != second.Dot {
			t.Fatalf("%v and %v don't collide", first.Dot, second.Dot)
		}
		meet([][]*computer{{c, peer, far}, {peer, far, c}, {far, c, peer}}[n%3]...)
		for _, one := range []*computer{c, peer, far} {
			m.same(one.l, c.l)
			if action(one.l, "web", "db") != policy.Deny || n%2 == 1 && action(one.l, "other", "db") != policy.Deny {
				t.Errorf("%d: a deny is lost: %v", n, one.l.Intentions())
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// TestLineage: a record names the epochs of its signer in its cell, and at last all
// before one, so that a node which has missed the records in between agrees.
func TestLineage(t *testing.T) {
	m := newMesh(t)
	c, peer, _ := computers(m)
	var all []Record
	for n := range 2 * maxLineage {
		c.boot(uint64(100 + n))
		all = append(all, c.make(m.op, KindIntention, "web>db", intention(policy.Allow)))
		last := all[n]
		if want := min(n, maxLineage+1); len(last.Supersedes) != want {
			t.Fatalf("after %d epochs a record names %d", n, len(last.Supersedes))
		}
	}
	m.takes(peer.l, all[0])
	m.takes(peer.l, all[maxLineage-1])
	m.takes(peer.l, all[len(all)-1])
	m.same(peer.l, c.l)
	for _, old := range all[1 : maxLineage-1] {
		m.refuses(peer.l, old, ErrStale)
	}
	if n := len(c.disk); n != len(m.l.Records())+1 {
		t.Errorf("%d records on disk, want one besides the founding ones", n)
	}
}

// TestClockBack: an epoch is above all that are known, and a new one begins when more
// become known.
func TestClockBack(t *testing.T) {
	m := newMesh(t)
	c, peer, _ := computers(m)
	disk, seen := c.copyDisk()
	c.boot(1000)
	c.make(m.op, KindIntention, "web>db", intention(policy.Allow))
	meet(c, peer)
	c.disk, c.seen = disk, seen
	c.boot(10)
	if r := c.make(m.op, KindIntention, "a>b", policy.Intention{Source: "a", Destination: "b", Action: policy.Deny}); epochOf(r.Dot.Seq) != 10 {
		t.Errorf("epoch %d, want 10", epochOf(r.Dot.Seq))
	}
	meet(c, peer)
	if r := c.make(m.op, KindIntention, "a>c", policy.Intention{Source: "a", Destination: "c", Action: policy.Deny}); epochOf(r.Dot.Seq) != 1<<randomBits|10 {
		t.Errorf("epoch %d, want one above the known 1000, with the random bits of the start's", epochOf(r.Dot.Seq))
	}
	c.l.given[m.op.ID()], c.l.reserved[m.op.ID()] = 5<<40-1, 5<<40-1
	if r := c.make(m.op, KindIntention, "a>d", policy.Intention{Source: "a", Destination: "d", Action: policy.Deny}); r.Dot.Seq < 5<<40 || counterOf(r.Dot.Seq) != 1 {
		t.Errorf("%x follows the last number of an epoch", r.Dot.Seq)
	}
}

// TestInheritance: what a record has superseded stays so when its signer, who doesn't
// know it any more, signs again.
func TestInheritance(t *testing.T) {
	m := newMesh(t)
	c, peer, far := computers(m)
	first := far.make(m.op, KindIntention, "web>db", intention(policy.Deny))
	peer.take([]Record{first})
	second := peer.make(m.op2, KindIntention, "web>db", intention(policy.Allow))
	c.take([]Record{second})
	c.boot(100)
	c.make(m.op2, KindIntention, "web>db", intention(policy.Allow))
	meet(c, peer, far)
	if action(far.l, "web", "db") != policy.Allow || len(far.l.Heads(KindIntention, "web>db")) != 1 {
		t.Errorf("a superseded deny comes back: %d heads", len(far.l.Heads(KindIntention, "web>db")))
	}
}

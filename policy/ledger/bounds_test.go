// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger/statement"
)

// TestQuota: whatever a member's records are, they take at most 4 MiB of an exchange and
// 5 MiB of memory, and others' are taken.
func TestQuota(t *testing.T) {
	many := slices.Repeat([]string{strings.Repeat("x", 250)}, 60)
	pairs := map[string]string{}
	for i := range 64 {
		pairs[fmt.Sprint(i)] = fmt.Sprint(i)
	}
	for name, c := range map[string]struct {
		records int
		of      func(i int) (Record, statement.Instance)
	}{
		"small records": {2500, func(i int) (Record, statement.Instance) { return Record{}, statement.Instance{} }},
		"long tags":     {400, func(i int) (Record, statement.Instance) { return Record{}, statement.Instance{Tags: many} }},
		"many pairs":    {800, func(i int) (Record, statement.Instance) { return Record{}, statement.Instance{Meta: pairs} }},
		"one number":    {2500, func(i int) (Record, statement.Instance) { return Record{Dot: Dot{Seq: 7}}, statement.Instance{} }},
		"superseded ones": {800, func(i int) (Record, statement.Instance) {
			return Record{Dot: Dot{Seq: uint64(maxSupersedes+i+1)<<counterBits | 1}}, statement.Instance{}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t)
			m.remember()
			var recs []Record
			for i := range c.records {
				r, body := c.of(i)
				body.Node, body.Service, body.ID = "n1", "db", fmt.Sprint(i)
				r.Kind, r.Key = KindInstance, "n1/"+body.ID
				if name == "superseded ones" {
					for k := range maxSupersedes {
						r.Supersedes = append(r.Supersedes, Dot{m.n1.ID(), uint64(i+k+1)<<counterBits | 1})
					}
				}
				recs = append(recs, m.craft(m.n1, r, body))
			}
			l := m.copyOf(m.l)
			others := len(encoded(t, l))
			before := heap()
			_, rejected := l.Merge(decoded(t, recs))
			memory := heap() - before
			exchanged := len(encoded(t, l)) - others
			held := len(l.Published("n1"))
			t.Logf("%d of %d records: %d KiB exchanged, %d KiB of memory", held, c.records, exchanged>>10, memory>>10)
			if held == 0 || held == c.records || exchanged > 4<<20 || memory > 5<<20 {
				t.Error("out of bounds")
			}
			if !l.Full("n1") || l.Full("n2") {
				t.Error("who is full isn't told")
			}
			if len(rejected) != c.records-held || !errors.Is(rejected[0].Err, ErrLimit) || !strings.Contains(rejected[0].Err.Error(), "n1") {
				t.Errorf("%d are refused, the first with %v", len(rejected), rejected[0].Err)
			}
			m.takes(l, m.craft(m.n2, Record{Kind: KindInstance, Key: "n2/a"}, statement.Instance{Node: "n2", Service: "db", ID: "a"}))
			m.intend(l, m.op, policy.Deny, "web", "db")
			runtime.KeepAlive(l)
		})
	}
}

func encoded(t *testing.T, l *Ledger) []byte {
	text, err := json.Marshal(l.Records())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// decoded has records in memory of their own, as from the network.
func decoded(t *testing.T, recs []Record) (out []Record) {
	text, err := json.Marshal(recs)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int(s.HeapAlloc)
}

// TestCompaction: what is replaced leaves memory and disk, and doesn't come back: of
// 2,000 updates by a node, and 2,000 by an operator over 200 starts, one record each
// stays.
func TestCompaction(t *testing.T) {
	m := newMesh(t)
	m.remember()
	c, peer, _ := computers(m)
	founding := len(c.disk)
	var all []Record
	for n := range 2000 {
		if n%10 == 0 {
			c.boot(uint64(100 + n))
		}
		all = append(all, c.make(m.n1, KindInstance, "n1/a", statement.Instance{Node: "n1", Service: "db", ID: "a", Port: uint16(n + 1)}),
			c.make(m.op, KindIntention, "web>db", policy.Intention{Source: "web", Destination: "db", Action: policy.Deny, Description: fmt.Sprint(n)}))
	}
	if n := len(c.disk) - founding; n != 2 {
		t.Errorf("%d records on disk, want 2", n)
	}
	peer.take(all)
	if n := len(peer.disk) - founding; n != 2 {
		t.Errorf("%d records on a peer's disk, want 2", n)
	}
	m.same(c.l, peer.l)
	before := c.l.Digest()
	for chunk := range slices.Chunk(all, 7) {
		if c.take(chunk); c.l.Digest() != before {
			t.Fatal("replaced records come back")
		}
	}
	if n := len(c.disk) - founding; n != 2 {
		t.Errorf("%d records on disk after a replay, want 2", n)
	}
}

// TestCrashWhileSaving: at any point between two writes, a restart finds what replaces
// or what was replaced, and the rest is dropped then.
func TestCrashWhileSaving(t *testing.T) {
	m := newMesh(t)
	c, _, _ := computers(m)
	c.boot(100)
	old := c.make(m.op, KindIntention, "web>db", intention(policy.Deny))
	c.boot(200)
	next := c.make(m.op, KindIntention, "web>db", policy.Intention{Source: "web", Destination: "db", Action: policy.Deny, Description: "2"})
	for name, disk := range map[string][]Record{"before": {old}, "between": {old, next}, "after": {next}} {
		crashed := &computer{mesh: m, disk: keeper{}, seen: map[identity.KeyID]uint64{}}
		for _, r := range append(m.l.Records(), disk...) {
			crashed.disk[r.ID()] = r
		}
		crashed.boot(300)
		if action(crashed.l, "web", "db") != policy.Deny {
			t.Errorf("%s: the deny is lost", name)
		}
		if crashed.save(); len(crashed.disk) != len(m.l.Records())+1 {
			t.Errorf("%s: %d records on disk", name, len(crashed.disk))
		}
	}
}

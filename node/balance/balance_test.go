// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"log/slog"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
	"tacit/tproxy"
)

type records []statement.Instance

func (r records) Instances() []statement.Instance { return r }

func (records) Resolvers() []resolver.Rules           { return nil }
func (r records) Vouched(_, _ identity.Name) []string { return nil }

func (r records) Node(n identity.Name) (statement.Node, bool) {
	return statement.Node{Node: n, Address: "10.0.0.1", LanePort: 7947}, true
}

// fixture is a balancer with a clock of its own, for db on the named nodes.
type fixture struct {
	*Balancer
	leaves identity.Name // the node that is about to stop

	t     *testing.T
	clock time.Time
	cat   *catalog.Catalog
}

func newFixture(t *testing.T, nodes ...identity.Name) *fixture {
	f := &fixture{t: t, clock: time.Unix(1000, 0)}
	f.Balancer = New(slog.New(slog.DiscardHandler), func(node identity.Name) bool { return node == f.leaves })
	f.now = func() time.Time { return f.clock }
	f.set(nodes...)
	return f
}

func (f *fixture) set(nodes ...identity.Name) {
	var list records
	for _, n := range nodes {
		list = append(list, statement.Instance{Node: n, Service: "db", ID: "db", Port: 1})
	}
	f.cat = catalog.New("here", list, func(identity.Name) bool { return true })
}

func (f *fixture) pick(tried ...Key) Key {
	f.t.Helper()
	in, _, err := f.Pick(f.cat, Call{Service: "db", Port: 1, Source: "web", Tried: tried})
	if err != nil {
		f.t.Fatal(err)
	}
	return keyOf(in)
}

// fail has n connections to a node fail.
func (f *fixture) fail(node identity.Name, n int) {
	f.t.Helper()
	for range n {
		other := map[identity.Name]Key{"a": {"b", "db"}, "b": {"a", "db"}}[node]
		for k := f.pick(other); k.Node != node; k = f.pick(other) {
			f.Report("db", k, tproxy.Ended) // this one is ejected, and the other one is chosen instead
		}
		f.Report("db", Key{node, "db"}, tproxy.Failed)
	}
}

// share is how many of n connections, each ended at once, go to a node.
func (f *fixture) share(node identity.Name, n int) (got int) {
	f.t.Helper()
	for range n {
		k := f.pick()
		if k.Node == node {
			got++
		}
		f.Report("db", k, tproxy.Ended)
	}
	return got
}

// TestEjection: three failures in a row eject an instance for a second, then a
// single connection tries it, and every failure doubles the time, up to 30 s.
func TestEjection(t *testing.T) {
	f := newFixture(t, "a", "b")
	f.fail("a", 2)
	if f.share("a", 100) == 0 {
		t.Error("ejected after two failures")
	}
	f.fail("a", 1)
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		e, ok := f.Ejected("db")[Key{"a", "db"}]
		if got := e.Until.Sub(f.clock); !ok || got != want*time.Second {
			t.Fatalf("ejected for %v, want %d s", got, want)
		}
		if n := f.share("a", 100); n > 0 {
			t.Fatalf("%d connections to an ejected instance", n)
		}
		f.clock = e.Until
		trials := 0
		for range 200 {
			if f.pick().Node == "a" {
				trials++
			}
		}
		if trials != 1 {
			t.Fatalf("%d trials at once, want 1", trials)
		}
		f.Report("db", Key{"a", "db"}, tproxy.Failed)
	}
	f.clock = f.Ejected("db")[Key{"a", "db"}].Until
	for f.pick().Node != "a" {
	}
	f.Report("db", Key{"a", "db"}, tproxy.Answered)
	if n := len(f.Ejected("db")); n > 0 {
		t.Errorf("%d ejected after an answer", n)
	}
}

// TestNeverAll: when every instance is ejected, all count again.
func TestNeverAll(t *testing.T) {
	f := newFixture(t, "a", "b")
	f.fail("a", 3)
	f.fail("b", 3)
	if n := f.share("a", 200); n < 50 || n > 150 {
		t.Errorf("%d of 200 went to one of two ejected instances", n)
	}
}

// TestStart: an instance that joins gets a growing share for ten seconds.
func TestStart(t *testing.T) {
	f := newFixture(t, "a")
	f.share("a", 1)
	f.set("a", "b")
	f.share("a", 1)
	for _, tc := range []struct {
		after    time.Duration
		min, max int
	}{{0, 40, 180}, {5 * time.Second, 250, 460}, {10 * time.Second, 430, 570}} {
		f.clock = time.Unix(1000, 0).Add(tc.after)
		if n := f.share("b", 1000); n < tc.min || n > tc.max {
			t.Errorf("after %v %d of 1000 went to the new instance, want %d to %d", tc.after, n, tc.min, tc.max)
		}
	}
}

// TestForget: instances that are gone are forgotten once their streams have ended.
func TestForget(t *testing.T) {
	f := newFixture(t, "a", "b")
	for f.pick().Node != "b" {
	}
	f.set("a")
	f.share("a", 1)
	if n := len(f.services["db"].instances); n != 2 {
		t.Errorf("%d known while one still has a stream", n)
	}
	f.Report("db", Key{"b", "db"}, tproxy.Ended)
	f.share("a", 1)
	if n := len(f.services["db"].instances); n != 1 {
		t.Errorf("%d known", n)
	}
}

// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger/statement"
)

// call is a connection that has tried nothing, to instances of which nothing is known.
func call(service identity.Name, port uint16) Call {
	r, turns := rand.New(rand.NewPCG(1, 2)), map[identity.Name]uint64{}
	return Call{Service: service, Port: port, IntN: r.IntN, Tried: func(Instance) bool { return false },
		Allowed: func(identity.Name) bool { return true },
		Turn: func(_, subset identity.Name) uint64 {
			turns[subset]++
			return turns[subset] - 1
		},
		Standing: func(Instance) Standing { return Standing{Share: 100} }}
}

// zoned is a catalog whose records have zones.
type zoned struct {
	records
	zones map[identity.Name]string
}

func (z zoned) Node(n identity.Name) (statement.Node, bool) {
	return statement.Node{Node: n, Address: "10.0.0.9", LanePort: 7947, Zone: z.zones[n]}, true
}

// service is db with one instance on each named node, balanced by policy.
func service(policy string, weights map[identity.Name]int, zones map[identity.Name]string) *Catalog {
	var list records
	for node, w := range weights {
		list = append(list, statement.Instance{Node: node, Service: "db", ID: "db-" + string(node), Port: 1, Weight: w, Balance: policy})
	}
	return New("here", zoned{list, zones}, func(identity.Name) bool { return true })
}

// count makes n calls and counts them by node.
func count(t *testing.T, c *Catalog, n int, q Call) map[identity.Name]int {
	t.Helper()
	got := map[identity.Name]int{}
	for range n {
		in, _, err := c.Pick(q)
		if err != nil {
			t.Fatal(err)
		}
		got[in.Node]++
	}
	return got
}

// TestShares: every policy gives instances without streams shares by their weights.
func TestShares(t *testing.T) {
	weights := map[identity.Name]int{"a": 1, "b": 2, "c": 5}
	const n = 8000
	for _, policy := range append(Balances(), "", "one of a later version") {
		t.Run(policy, func(t *testing.T) {
			c := service(policy, weights, nil)
			got := map[identity.Name]int{}
			if policy == BalanceHash {
				for i := range n {
					q := call("db", 1)
					q.Source = fmt.Sprintf("web 10.0.%d.%d", i/256, i%256)
					in, _, _ := c.Pick(q)
					got[in.Node]++
				}
			} else {
				got = count(t, c, n, call("db", 1))
			}
			for node, w := range weights {
				want := float64(n * w / 8)
				limit := 5 * math.Sqrt(want) // five standard deviations
				if policy == BalanceTurns {
					limit = 0
				}
				if math.Abs(float64(got[node])-want) > limit {
					t.Errorf("%s got %d of %d, want %.0f ± %.0f", node, got[node], n, want, limit)
				}
			}
		})
	}
}

// TestTurns: equal instances take plain turns, and heavy ones don't take all of
// theirs in a row.
func TestTurns(t *testing.T) {
	c := service(BalanceTurns, map[identity.Name]int{"a": 1, "b": 1, "c": 1}, nil)
	q := call("db", 1)
	for range 5 {
		if got := count(t, c, 3, q); len(got) != 3 {
			t.Errorf("three turns: %v", got)
		}
	}
	c = service(BalanceTurns, map[identity.Name]int{"a": 50, "b": 50}, nil)
	if got := count(t, c, 2, q); len(got) != 2 {
		t.Errorf("two turns: %v", got)
	}
	c = service(BalanceTurns, map[identity.Name]int{"a": 500, "b": 501}, nil)
	if got := count(t, c, 20, q); got["a"] < 8 || got["b"] < 8 {
		t.Errorf("20 turns: %v", got)
	}
}

// TestLeast: of 10 instances, those that are loaded get fewer connections, and
// with connections that don't end, all are loaded alike.
func TestLeast(t *testing.T) {
	weights := map[identity.Name]int{}
	for i := range 10 {
		weights[identity.Name(fmt.Sprintf("n%d", i))] = 1 + i/5*2 // five of weight 1, five of weight 3
	}
	c := service("", weights, nil)
	streams := map[identity.Name]int{}
	q := call("db", 1)
	q.Standing = func(in Instance) Standing { return Standing{Streams: streams[in.Node], Share: 100} }
	for range 2000 {
		in, _, _ := c.Pick(q)
		streams[in.Node]++
	}
	for node, w := range weights {
		if got := streams[node]; got < 100*w-12 || got > 100*w+12 {
			t.Errorf("%s of weight %d carries %d of 2000, want about %d", node, w, got, 100*w)
		}
	}
	two := service("", map[identity.Name]int{"a": 1, "b": 1}, nil)
	q.Standing = func(in Instance) Standing {
		return Standing{Streams: map[identity.Name]int{"a": 1}[in.Node], Share: 100}
	}
	if got := count(t, two, 100, q); got["b"] != 100 {
		t.Errorf("the idle one got %v", got)
	}
}

// TestHash: a caller keeps its instance, and loses it only when that one goes.
func TestHash(t *testing.T) {
	all := map[identity.Name]int{"a": 1, "b": 1, "c": 1, "d": 1}
	before, after := service(BalanceHash, all, nil), maps.Clone(all)
	delete(after, "c")
	moved := 0
	for i := range 1000 {
		q := call("db", 1)
		q.Source = fmt.Sprint("web ", i)
		x, _, _ := before.Pick(q)
		y, _, _ := service(BalanceHash, after, nil).Pick(q)
		if x.Node != y.Node {
			moved++
			if x.Node != "c" {
				t.Fatalf("caller %d moved from %s to %s", i, x.Node, y.Node)
			}
		}
	}
	if moved < 200 || moved > 300 {
		t.Errorf("%d of 1000 callers moved, want about 250", moved)
	}
}

// TestOrder: health before what was tried, before ejection, before locality; and
// never nobody.
func TestOrder(t *testing.T) {
	zones := map[identity.Name]string{"here": "z1", "near": "z1", "far": "z2", "farther": "z2"}
	weights := map[identity.Name]int{"here": 1, "near": 1, "far": 1, "farther": 1}
	for name, tc := range map[string]struct {
		tried, ejected []identity.Name
		leaving        []identity.Name
		want           []identity.Name
		others         bool
	}{
		"not a node that leaves":     {leaving: []identity.Name{"here", "near"}, want: []identity.Name{"far", "farther"}, others: true},
		"all leave":                  {leaving: []identity.Name{"here", "near", "far", "farther"}, want: []identity.Name{"here"}, others: true},
		"rather leaving than failed": {leaving: []identity.Name{"near"}, ejected: []identity.Name{"here", "far", "farther"}, want: []identity.Name{"near"}, others: true},
		"this node first":            {want: []identity.Name{"here"}, others: true},
		"then the zone":              {tried: []identity.Name{"here"}, want: []identity.Name{"near"}, others: true},
		"an ejected one spills over": {ejected: []identity.Name{"here"}, want: []identity.Name{"near"}, others: true},
		"to other zones":             {tried: []identity.Name{"here"}, ejected: []identity.Name{"near"}, want: []identity.Name{"far", "farther"}, others: true},
		"all ejected count again":    {ejected: []identity.Name{"here", "near", "far", "farther"}, want: []identity.Name{"here"}, others: true},
		"ejected before tried":       {tried: []identity.Name{"here", "near", "far"}, ejected: []identity.Name{"farther"}, want: []identity.Name{"farther"}},
		"nothing else is left":       {tried: []identity.Name{"here", "near", "far", "farther"}, want: []identity.Name{"here"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, q := service("", weights, zones), call("db", 1)
			q.Tried = func(in Instance) bool { return slices.Contains(tc.tried, in.Node) }
			q.Standing = func(in Instance) Standing {
				return Standing{Ejected: slices.Contains(tc.ejected, in.Node), Leaving: slices.Contains(tc.leaving, in.Node), Share: 100}
			}
			if got := slices.Sorted(maps.Keys(count(t, c, 50, q))); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if _, others, _ := c.Pick(q); others != tc.others {
				t.Errorf("others: %v", others)
			}
		})
	}
}

// TestCheck: what Pick would say, without a choice.
func TestCheck(t *testing.T) {
	c := service("", map[identity.Name]int{"a": 1}, nil)
	nobody := func(identity.Name) bool { return false }
	for port, want := range map[uint16]policy.Reason{1: "", 80: "", 443: "", 2: policy.ReasonPort, 0: policy.ReasonPort} {
		if got := policy.ReasonOf(c.Check("db", port, nobody), ""); got != want {
			t.Errorf("port %d: %q, want %q", port, got, want)
		}
	}
	if err := c.Check("web", 80, nobody); policy.ReasonOf(err, "") != policy.ReasonInstance {
		t.Errorf("no such service: %v", err)
	}
}

// TestStart: an instance that starts gets its percentage.
func TestStart(t *testing.T) {
	for _, policy := range []string{BalanceLeast, BalanceWeighted, BalanceTurns} {
		c, q := service(policy, map[identity.Name]int{"a": 1, "b": 1}, nil), call("db", 1)
		q.Standing = func(in Instance) Standing { return Standing{Share: map[identity.Name]int{"a": 100, "b": 25}[in.Node]} }
		if got := count(t, c, 5000, q); got["b"] < 900 || got["b"] > 1100 {
			t.Errorf("%s: the starting one got %d of 5000, want 1000", policy, got["b"])
		}
	}
}

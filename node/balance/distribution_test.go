// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
	"tacit/tproxy"
)

// choices is how many connections each distribution is counted over.
const choices = 10_000

// ruled are records with a resolver.
type ruled struct {
	records
	rules resolver.Rules
}

func (r ruled) Resolvers() []resolver.Rules { return []resolver.Rules{r.rules} }

// split gives subsets v1, v2, … their weights; an instance is in the subset of its tag.
func split(weights ...int) resolver.Rules {
	r := resolver.Rules{Service: "db", Subsets: map[identity.Name]resolver.Subset{}, Split: map[identity.Name]int{}}
	for i, w := range weights {
		name := identity.Name(fmt.Sprint("v", i+1))
		r.Subsets[name], r.Split[name] = resolver.Subset{Tag: string(name)}, w
	}
	return r
}

// dbOn is one instance of db, on a node of its own.
func dbOn(node identity.Name, weight int, policy string, tags ...string) statement.Instance {
	return statement.Instance{Node: node, Service: "db", ID: "db", Port: 1, Weight: weight, Balance: policy, Tags: tags}
}

// seeded is a fixture whose chances follow from a seed.
func seeded(t *testing.T, seed uint64, rules resolver.Rules, list ...statement.Instance) *fixture {
	t.Helper()
	f := newFixture(t)
	f.intN = rand.New(rand.NewPCG(seed, 0)).IntN
	f.cat = catalog.New("here", ruled{list, rules}, func(identity.Name) bool { return true })
	return f
}

// choose makes n connections, which end at once, each from another program, and
// counts them by node.
func (f *fixture) choose(n int) map[identity.Name]int {
	f.t.Helper()
	got := map[identity.Name]int{}
	for i := range n {
		in, _, err := f.Pick(f.cat, Call{Service: "db", Port: 1, Source: fmt.Sprintf("web 10.%d.%d.1", i/256, i%256)})
		if err != nil {
			f.t.Fatal(err)
		}
		got[in.Node]++
		f.Report("db", keyOf(in), tproxy.Ended)
	}
	return got
}

// fits compares counts with shares by Pearson's chi-squared test. A right
// distribution fails less often than once in 10⁹.
func fits(t *testing.T, got map[identity.Name]int, shares map[identity.Name]float64) {
	t.Helper()
	n, sum, total := 0, 0.0, 0.0
	for _, count := range got {
		n += count
	}
	for _, share := range shares {
		total += share
	}
	for node, share := range shares {
		if share == 0 {
			if got[node] > 0 {
				t.Errorf("%s got %d, and has no share", node, got[node])
			}
			continue
		}
		want := float64(n) * share / total
		sum += (float64(got[node]) - want) * (float64(got[node]) - want) / want
	}
	if limit := chiLimit(len(shares) - 1); sum > limit {
		t.Errorf("chi² is %.1f, at most %.1f is chance: %v, want shares of %v", sum, limit, got, shares)
	}
}

// chiLimit is what chi-squared exceeds with a probability below 10⁻⁹, by Wilson and
// Hilferty's approximation; 6.2 standard deviations instead of 6.0 cover its error.
func chiLimit(freedom int) float64 {
	k := float64(freedom)
	return k * math.Pow(1-2/(9*k)+6.2*math.Sqrt(2/(9*k)), 3)
}

// TestDistribution: every policy gives instances what their weights say, alone and
// within a split, whose shares are exact whatever the policy.
func TestDistribution(t *testing.T) {
	for _, policy := range catalog.Balances() {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%s, seed %d", policy, seed), func(t *testing.T) {
				f := seeded(t, seed, resolver.Rules{}, dbOn("a", 1, policy), dbOn("b", 2, policy), dbOn("c", 5, policy))
				fits(t, f.choose(choices), map[identity.Name]float64{"a": 1, "b": 2, "c": 5})

				f = seeded(t, seed, split(90, 10), dbOn("a", 1, policy, "v1"), dbOn("b", 2, policy, "v1"), dbOn("c", 1, policy, "v2"))
				fits(t, f.choose(choices), map[identity.Name]float64{"a": 30, "b": 60, "c": 10})

				f = seeded(t, seed, split(0, 1, 1), dbOn("a", 9, policy, "v1"), dbOn("b", 1, policy, "v2"), dbOn("c", 7, policy, "v3"), dbOn("d", 1, policy))
				fits(t, f.choose(choices), map[identity.Name]float64{"a": 0, "b": 1, "c": 1, "d": 0})
			})
		}
	}
}

// TestSplitGivesOn: a subset without a healthy instance gives its share to the
// others, by their weights.
func TestSplitGivesOn(t *testing.T) {
	down := dbOn("a", 1, "", "v1")
	down.Down = "listener"
	f := seeded(t, 1, split(70, 20, 10), down, dbOn("b", 1, "", "v2"), dbOn("c", 1, "", "v3"))
	fits(t, f.choose(choices), map[identity.Name]float64{"a": 0, "b": 2, "c": 1})
	f.ejects(t, "b")
	fits(t, f.choose(choices), map[identity.Name]float64{"a": 0, "b": 0, "c": 1})
}

// ejects has connections fail until an instance is ejected.
func (f *fixture) ejects(t *testing.T, node identity.Name) {
	t.Helper()
	for len(f.Ejected("db")) == 0 {
		in, _, err := f.Pick(f.cat, Call{Service: "db", Port: 1})
		if err != nil {
			t.Fatal(err)
		}
		how := tproxy.Ended
		if in.Node == node {
			how = tproxy.Failed
		}
		f.Report("db", keyOf(in), how)
	}
}

// TestSplitStart: within a subset, an instance that starts gets its growing share;
// the subset's is what the split says.
func TestSplitStart(t *testing.T) {
	old, other, fresh := dbOn("a", 1, "weighted", "v1"), dbOn("b", 1, "weighted", "v2"), dbOn("c", 1, "weighted", "v1")
	f := seeded(t, 1, split(50, 50), old, other)
	f.choose(1)
	f.cat = catalog.New("here", ruled{records{old, other, fresh}, split(50, 50)}, func(identity.Name) bool { return true })
	f.choose(1)
	for _, c := range []struct {
		after time.Duration
		share float64 // of the new instance's weight
	}{{0, .1}, {5 * time.Second, .55}, {10 * time.Second, 1}} {
		f.clock = time.Unix(1000, 0).Add(c.after)
		fits(t, f.choose(choices), map[identity.Name]float64{"a": 50 / (1 + c.share), "b": 50, "c": 50 * c.share / (1 + c.share)})
	}
}

// TestSplitHash: the same caller gets the same subset, and a change of weights moves
// only those callers that it must.
func TestSplitHash(t *testing.T) {
	list := []statement.Instance{dbOn("a", 1, "hash", "v1"), dbOn("b", 1, "hash", "v1"), dbOn("c", 1, "hash", "v2")}
	place := func(seed uint64, rules resolver.Rules) (out []identity.Name) {
		f := seeded(t, seed, rules, list...)
		for i := range choices {
			in, _, err := f.Pick(f.cat, Call{Service: "db", Port: 1, Source: fmt.Sprint("web ", i)})
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, in.Node)
		}
		return out
	}
	first, again, later := place(1, split(90, 10)), place(2, split(90, 10)), place(3, split(80, 20))
	moved := 0
	for i := range first {
		if first[i] != again[i] {
			t.Fatalf("caller %d went to %s and to %s", i, first[i], again[i])
		}
		if first[i] == later[i] {
			continue
		}
		if moved++; later[i] != "c" {
			t.Fatalf("caller %d moved from %s to %s", i, first[i], later[i])
		}
	}
	fits(t, map[identity.Name]int{"moved": moved, "stayed": choices - moved}, map[identity.Name]float64{"moved": 10, "stayed": 90})
}

// TestSplitRetry: a retry stays in its subset while that has an instance left, and
// goes to the others then.
func TestSplitRetry(t *testing.T) {
	f := seeded(t, 1, split(50, 50), dbOn("a", 1, "", "v1"), dbOn("b", 1, "", "v1"), dbOn("c", 1, "", "v1"), dbOn("d", 1, "", "v2"))
	for range 200 {
		if got := f.pick(Key{"a", "db"}, Key{"c", "db"}); got.Node != "b" {
			t.Fatalf("third attempt at %s", got.Node)
		}
		if got := f.pick(Key{"d", "db"}); got.Node == "d" {
			t.Fatal("a retry went to the same instance")
		}
		if got := f.pick(Key{"a", "db"}, Key{"b", "db"}, Key{"c", "db"}); got.Node != "d" {
			t.Fatalf("after its subset at %s", got.Node)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package share

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
)

// mesh is records by hand: a node's addresses beside its first one are in also.
type mesh struct {
	instances []statement.Instance
	also      map[identity.Name][]string
	rules     []resolver.Rules
}

func (m mesh) Instances() []statement.Instance { return m.instances }
func (m mesh) Resolvers() []resolver.Rules     { return m.rules }
func (m mesh) Node(name identity.Name) (statement.Node, bool) {
	return statement.Node{Node: name, Address: "addr-of-" + string(name), Also: m.also[name]}, true
}

// many are n instances of a service with ports of their own.
func many(node, service identity.Name, n int) (out []statement.Instance) {
	for i := range n {
		out = append(out, statement.Instance{Node: node, Service: service, ID: fmt.Sprintf("%s-%05d", service, i), Port: uint16(i + 1)})
	}
	return out
}

// spread is many instances of so many services, none of which has more than a member may.
func spread(node, prefix identity.Name, n int) (out []statement.Instance) {
	for i := 0; len(out) < n; i++ {
		out = append(out, many(node, identity.Name(fmt.Sprint(prefix, i)), min(maxInstances, n-len(out)))...)
	}
	return out
}

// kept counts the instances of each node that are left.
func kept(m mesh, s Shares) map[identity.Name]int {
	out := map[identity.Name]int{}
	for _, in := range s.Keep(m.instances) {
		out[in.Node]++
	}
	return out
}

func text(all []Excess) string {
	var out []string
	for _, e := range all {
		out = append(out, e.String())
	}
	return strings.Join(out, "; ")
}

// TestOverflowHurtsTheOffender: who announces more than fits is cut to its share and
// named; nobody else loses anything.
func TestOverflowHurtsTheOffender(t *testing.T) {
	outside := func(node identity.Name, n int) (out []statement.Instance) {
		for i := range n {
			in := statement.Instance{Node: node, Service: identity.Name(fmt.Sprint("o", i/maxInstances)), ID: fmt.Sprint(i), Port: 1, Outside: &statement.Outside{}}
			for k := range 32 {
				in.Outside.Addresses = append(in.Outside.Addresses, fmt.Sprintf("%s:%d", node, 32*i+k))
			}
			out = append(out, in)
		}
		return out
	}
	tagged := func(node identity.Name, n int) (out []statement.Instance) {
		for i := range n {
			in := statement.Instance{Node: node, Service: identity.Name(fmt.Sprint("t", i/maxInstances)), ID: fmt.Sprint(i)}
			for k := range 64 {
				in.Tags = append(in.Tags, fmt.Sprintf("%s-%d", node, 64*i+k))
			}
			out = append(out, in)
		}
		return out
	}
	subsets := map[identity.Name]resolver.Subset{}
	for i := range 16 {
		subsets[identity.Name(fmt.Sprint("v", i))] = resolver.Subset{}
	}
	for name, c := range map[string]struct {
		mesh mesh
		kept map[identity.Name]int
		says string
	}{
		"nothing": {mesh{}, nil, ""},
		"what fits": {mesh{instances: slices.Concat(many("host1", "db", 64), many("host2", "db", 64))},
			map[identity.Name]int{"host1": 64, "host2": 64}, ""},
		"instances of one service": {mesh{instances: slices.Concat(many("host1", "db", 3), many("host3", "db", 900))},
			map[identity.Name]int{"host1": 3, "host3": 64}, "host3 announces 900 instances of db; 64 are used"},
		"addresses outside of the mesh": {mesh{instances: slices.Concat(outside("host1", 100), outside("host3", 600))},
			map[identity.Name]int{"host1": 100, "host3": (14336 - 3200) / 32}, "host3 announces 19200 addresses outside of the mesh; 11136 are used"},
		"tags": {mesh{instances: slices.Concat(tagged("host1", 10), tagged("host3", 200))},
			map[identity.Name]int{"host1": 10, "host3": (32768 - 3840) / 384}, "host3 announces 76800 tags and names outside of the mesh; 28926 are used"},
		"two of them": {mesh{instances: slices.Concat(tagged("host1", 10), tagged("host2", 200), tagged("host3", 200))},
			map[identity.Name]int{"host1": 10, "host2": 37, "host3": 37},
			"host2 announces 76800 tags and names outside of the mesh; 14460 are used; host3 announces 76800 tags and names outside of the mesh; 14460 are used"},
		"ports of services with subsets": {mesh{instances: slices.Concat(spread("host1", "a", 500), many("host3", "db", 64)), rules: []resolver.Rules{{Service: "db", Subsets: subsets}}},
			map[identity.Name]int{"host1": 500, "host3": 64}, ""},
	} {
		s := Divide(c.mesh)
		if got := kept(c.mesh, s); !maps.Equal(got, c.kept) || text(s.Excess) != c.says {
			t.Errorf("%s: kept %v, says %q; want %v, %q", name, got, text(s.Excess), c.kept, c.says)
		}
	}
}

// TestSharesOfRealAddresses: of a member with 33 addresses and a port for each of its
// instances, so many are used as there is room for, and all of the others.
func TestSharesOfRealAddresses(t *testing.T) {
	m := mesh{also: map[identity.Name][]string{}}
	for i := range 32 {
		m.also["host3"] = append(m.also["host3"], fmt.Sprint("more-", i))
	}
	for i := range 6000 {
		m.instances = append(m.instances, statement.Instance{Node: "host3", Service: identity.Name(fmt.Sprint("s", i/maxInstances)), ID: fmt.Sprintf("%05d", i), Port: uint16(i + 1)})
	}
	m.instances = append(m.instances, spread("host1", "a", 300)...)
	s := Divide(m)
	got := kept(m, s)
	if got["host1"] != 300 || got["host3"] < 57344/33-2 || got["host3"] > 57344/33 || len(s.Excess) != 1 || s.Excess[0].Node != "host3" {
		t.Errorf("kept %v: %s", got, text(s.Excess))
	}
}

// TestTakingOthersAlong: a member that also announces what others do, beside much
// more, takes nothing of theirs along.
func TestTakingOthersAlong(t *testing.T) {
	honest := tags("host2", "web", 20)
	for _, offender := range []identity.Name{"host1", "host3"} {
		m := mesh{instances: slices.Concat(honest, tags(offender, "web", 20))}
		for i := range 100 {
			m.instances = append(m.instances, tags(offender, identity.Name(fmt.Sprint("x", i)), 60)...)
		}
		if got := kept(m, Divide(m)); got["host2"] != 1 || got[offender] >= 101 {
			t.Errorf("%s overflows: kept %v", offender, got)
		}
	}
}

func tags(node, service identity.Name, n int) []statement.Instance {
	in := statement.Instance{Node: node, Service: service, ID: string(service)}
	for i := range n {
		in.Tags = append(in.Tags, fmt.Sprint(i))
	}
	return []statement.Instance{in}
}

// TestDivideIsAlike: all nodes leave out the same, in whatever order they hold the
// records, and what is left fits.
func TestDivideIsAlike(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 5 {
		var m mesh
		for n := range 1 + r.IntN(5) {
			node := identity.Name(fmt.Sprint("host", n))
			for i := range r.IntN(200) {
				in := statement.Instance{Node: node, Service: identity.Name(fmt.Sprint("s", i%7)), ID: fmt.Sprint(i), Port: uint16(1 + r.IntN(3))}
				for range r.IntN(65) {
					in.Tags = append(in.Tags, fmt.Sprint(r.IntN(10_000)))
				}
				m.instances = append(m.instances, in)
			}
		}
		first := Divide(m)
		r.Shuffle(len(m.instances), func(i, k int) { m.instances[i], m.instances[k] = m.instances[k], m.instances[i] })
		if again := Divide(m); !reflect.DeepEqual(first, again) {
			t.Fatalf("another order: %s, then %s", text(first.Excess), text(again.Excess))
		}
		for _, room := range rooms() {
			used, seen := 0, map[string]bool{}
			for _, in := range first.Keep(m.instances) {
				for _, n := range room.needs(&division{records: m}, in) {
					if !seen[n.entry] {
						seen[n.entry], used = true, used+n.weight
					}
				}
			}
			if used > room.capacity {
				t.Errorf("%d %s in a room for %d", used, room.what, room.capacity)
			}
		}
	}
}

// TestLimit: what those leave who need less is divided among the others.
func TestLimit(t *testing.T) {
	for _, c := range []struct {
		charges  []int
		capacity int
		want     int
	}{
		{[]int{100, 1, 1}, 50, 48}, {[]int{100, 100}, 50, 25}, {[]int{30, 100, 100}, 60, 20}, {[]int{5, 100, 100}, 60, 27},
	} {
		if got := limit(slices.Clone(c.charges), c.capacity); got != c.want {
			t.Errorf("%v of %d: %d each, want %d", c.charges, c.capacity, got, c.want)
		}
	}
	if got := limit([]int{20, 30}, 50); got < 30 {
		t.Errorf("what fits is cut to %d", got)
	}
}

// BenchmarkDivide divides the room among 100 members with 10,000 instances.
func BenchmarkDivide(b *testing.B) {
	var m mesh
	for n := range 100 {
		m.instances = append(m.instances, spread(identity.Name(fmt.Sprint("host", n)), "s", 100)...)
	}
	for b.Loop() {
		Divide(m)
	}
}

// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestRanges compares Ranges with a map, on random numbers.
func TestRanges(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var rs Ranges
		set := map[uint64]bool{}
		for range r.IntN(60) {
			n := 1 + r.Uint64N(80)
			before := slices.Clone(rs)
			next := rs.Add(n)
			if !slices.Equal(rs, before) {
				t.Fatalf("Add changed its receiver: %v", rs)
			}
			rs, set[n] = next, true
		}
		if err := rs.validate(); err != nil {
			t.Fatalf("%v: %v", rs, err)
		}
		for n := range uint64(82) {
			if rs.Has(n) != set[n] {
				t.Fatalf("%v: Has(%d) = %v", rs, n, rs.Has(n))
			}
		}
		if k := 1 + r.IntN(5); len(rs) > k {
			filled := slices.Clone(rs).fill(k)
			if len(filled) != k || filled.Max() != rs.Max() || filled.validate() != nil || !slices.Equal(filled.union(rs), filled) {
				t.Fatalf("%v filled to %d: %v", rs, k, filled)
			}
		}
	}
	var all Ranges
	for _, n := range rand.Perm(1000) {
		all = all.Add(uint64(n + 1))
	}
	if !slices.Equal(all, Ranges{{1, 1000}}) {
		t.Errorf("not compact: %v", all)
	}
}

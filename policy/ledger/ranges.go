// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"errors"
	"math"
	"slices"
)

// Range is the numbers First to Last, both included.
type Range struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Ranges is a set of numbers from 1 up: sorted ranges that are not adjacent. The zero
// value is empty. Exported methods never change the receiver.
type Ranges []Range

// find returns the index of the first range that ends at or after n.
func (rs Ranges) find(n uint64) int {
	i, _ := slices.BinarySearchFunc(rs, n, func(r Range, n uint64) int {
		switch {
		case r.Last < n:
			return -1
		case r.First > n:
			return 1
		}
		return 0
	})
	return i
}

// Has reports whether n is in the set.
func (rs Ranges) Has(n uint64) bool {
	i := rs.find(n)
	return i < len(rs) && rs[i].First <= n
}

// Max returns the highest number, or 0.
func (rs Ranges) Max() uint64 {
	if len(rs) == 0 {
		return 0
	}
	return rs[len(rs)-1].Last
}

// Add returns the set with n in it.
func (rs Ranges) Add(n uint64) Ranges { return slices.Clone(rs).insert(Range{n, n}) }

// union returns the numbers of both sets.
func (rs Ranges) union(more Ranges) Ranges {
	out := slices.Clone(rs)
	for _, r := range more {
		out = out.insert(r)
	}
	return out
}

// insert adds r in place: it may overwrite the receiver.
func (rs Ranges) insert(r Range) Ranges {
	lo := rs.find(r.First)
	if lo > 0 && rs[lo-1].Last == r.First-1 {
		lo--
	}
	hi := lo
	for hi < len(rs) && rs[hi].First <= r.Last+1 {
		r.First, r.Last = min(r.First, rs[hi].First), max(r.Last, rs[hi].Last)
		hi++
	}
	return slices.Replace(rs, lo, hi, r)
}

// fill closes the lowest gaps until at most n ranges are left. The numbers in these
// gaps then count as seen.
func (rs Ranges) fill(n int) Ranges {
	if len(rs) <= n {
		return rs
	}
	k := len(rs) - n
	return slices.Replace(rs, 0, k+1, Range{rs[0].First, rs[k].Last})
}

func (rs Ranges) validate() error {
	var last uint64
	for i, r := range rs {
		if r.First == 0 || r.Last < r.First || r.Last > math.MaxInt64 || i > 0 && r.First-1 <= last {
			return errors.New("the ranges are damaged: out of order")
		}
		last = r.Last
	}
	return nil
}

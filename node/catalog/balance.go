// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"hash/fnv"
	"math"
)

// Policies by which a service's connections are balanced.
const (
	BalanceLeast    = "least"       // the less loaded of two that are chosen at random; the default
	BalanceTurns    = "round_robin" // in turns
	BalanceWeighted = "weighted"    // at random
	BalanceHash     = "hash"        // the same caller, the same instance
)

// Balances lists the policies.
func Balances() []string {
	return []string{BalanceLeast, BalanceTurns, BalanceWeighted, BalanceHash}
}

// choose returns the index of one of the instances; all policies respect weights.
func choose(policy string, list []Instance, n uint64, q Call) int {
	shares, total := weigh(list, q)
	switch {
	case len(list) == 1:
		return 0
	case policy == BalanceTurns:
		return at(shares, turn(n, total))
	case policy == BalanceWeighted:
		return at(shares, q.IntN(total))
	case policy == BalanceHash:
		return byHash(shares, list, q.Source)
	}
	return lessLoaded(shares, total, list, q)
}

// weigh returns each instance's share of new connections: its weight, less while
// it starts. Without a start, shares are as small as can be, so that turns of
// equal instances are plain turns.
func weigh(list []Instance, q Call) (shares []int, total int) {
	divisor := 0
	for _, in := range list {
		share := max(1, max(in.Weight, 1)*q.Standing(in).Share)
		shares = append(shares, share)
		divisor = gcd(divisor, share)
	}
	for i := range shares {
		shares[i] /= divisor
		total += shares[i]
	}
	return shares, total
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// at is the instance to which the n-th of all shares belongs.
func at(shares []int, n int) int {
	for i, share := range shares {
		if n -= share; n < 0 {
			return i
		}
	}
	return len(shares) - 1
}

// turn spreads the turns of heavy instances over a whole round: it steps through
// all shares by a stride without a common divisor, near the golden section.
func turn(n uint64, total int) int {
	stride := max(1, int(float64(total)*(math.Sqrt(5)-1)/2))
	for gcd(stride, total) != 1 {
		stride++
	}
	return int(n % uint64(total) * uint64(stride) % uint64(total))
}

// lessLoaded chooses two instances at random and returns the one with fewer
// streams per share; equal ones by chance.
func lessLoaded(shares []int, total int, list []Instance, q Call) int {
	first := at(shares, q.IntN(total))
	rest := total - shares[first]
	shares2 := append([]int(nil), shares...)
	shares2[first] = 0
	second := at(shares2, q.IntN(rest))
	if load(list[second], q)*shares[first] < load(list[first], q)*shares[second] {
		return second
	}
	return first
}

func load(in Instance, q Call) int { return q.Standing(in).Streams }

// chooseShare returns the index of a subset: the same caller, the same subset, with
// the policy "hash", else by chance.
func chooseShare(policy string, list []share, q Call) int {
	var weights []int
	var total int
	for _, s := range list {
		weights = append(weights, s.weight)
		total += s.weight
	}
	if policy == BalanceHash {
		return rendezvous(weights, func(i int) float64 { return uniform(q.Source, string(q.Service), string(list[i].subset)) })
	}
	return at(weights, q.IntN(total))
}

func byHash(shares []int, list []Instance, source string) int {
	return rendezvous(shares, func(i int) float64 { return uniform(source, string(list[i].Node), list[i].ID) })
}

// rendezvous is weighted rendezvous hashing: every caller ranks all that there is,
// so that one that goes moves only its own callers.
func rendezvous(shares []int, uniform func(i int) float64) int {
	best, top := 0, math.Inf(-1)
	for i, share := range shares {
		if score := -float64(share) / math.Log(uniform(i)); score > top {
			best, top = i, score
		}
	}
	return best
}

// uniform is a number between 0 and 1, without both, that follows from the words.
func uniform(words ...string) float64 {
	h := fnv.New64a()
	for _, w := range words {
		_, _ = h.Write(append([]byte(w), 0))
	}
	x := h.Sum64() // FNV's high bits mix badly; what follows is the finalizer of SplitMix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return (float64(x>>11) + 0.5) / (1 << 53)
}

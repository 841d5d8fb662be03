// SPDX-License-Identifier: Apache-2.0

// Package suggest says what was probably meant by an unknown word. It must not
// know what the words are for.
package suggest

import (
	"iter"
	"slices"
	"strings"
)

// Instead says what to write instead of an unknown key: the known one that it
// resembles, or all of them.
func Instead(unknown string, known iter.Seq[string]) string {
	all := slices.Sorted(known)
	best, least := "", 1+len(unknown)/3 // more changes than that make another word
	for _, key := range all {
		if d := distance(strings.ToLower(unknown), key); d <= least && (best == "" || d < least) {
			best, least = key, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "known are " + strings.Join(all, ", ")
}

// distance is the number of bytes to insert, delete or replace to make b of a
// (Levenshtein). Keys longer than any known one are compared no further.
func distance(a, b string) int {
	const longest = 64
	a = a[:min(len(a), longest)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

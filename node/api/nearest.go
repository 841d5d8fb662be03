// SPDX-License-Identifier: Apache-2.0

package api

import "strings"

// Nearest returns " (did you mean X?)" for the word of known that a mistyped one
// was probably meant to be, else "".
func Nearest(word string, known []string) string {
	best, at := "", 3 // at most two letters may differ
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < at && d < len(k) {
			best, at = k, d
		}
	}
	if best == "" || best == word {
		return ""
	}
	return " (did you mean " + best + "?)"
}

// distance is how many letters must be added, removed, replaced or swapped with
// their neighbour to make b of a (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

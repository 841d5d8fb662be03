// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"os"
	"slices"
	"strings"
)

// hole names rows that don't hold today. They are tried only where TACIT_OPEN
// is set, and fail there; a comment says what happens and what must. An empty
// field fits any row; a list is separated by |.
type hole struct {
	vector, from, to, with string
	in                     string // phases
}

// open is everything that is wrong today and known. What is mended moves out.
func open() []hole { return nil }

func isOpen(r row, p phase) bool { return os.Getenv("TACIT_OPEN") == "" && listed(r, p) }

// listed says whether open() names a row. One that holds all the same is to be
// taken out of there.
func listed(r row, p phase) bool {
	return slices.ContainsFunc(open(), func(h hole) bool {
		return fits(h.vector, r.vector) && fits(h.from, r.from) && fits(h.to, r.to) && fits(h.with, r.with) && fits(h.in, string(p))
	})
}

// fits says whether a text is one of a hole's.
func fits(list, text string) bool {
	return list == "" || slices.Contains(strings.Split(list, "|"), text)
}

// SPDX-License-Identifier: Apache-2.0

package reality

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// size picks a number for the short form or for the one of `make soak`.
func size(short, whole int) int {
	if os.Getenv("TACIT_SOAK") != "" {
		return whole
	}
	return short
}

// report prints a line for each figure of each failure; `make soak` ends with a
// table of them.
func (f *failures) report(t *testing.T) {
	for _, kind := range kinds() {
		var failed, slowest, last, known, after, twice []time.Duration
		for _, o := range f.seen[kind.name] {
			failed, after, twice = append(failed, time.Duration(o.failed)), append(after, time.Duration(o.after)), append(twice, time.Duration(o.twice))
			slowest, last, known = append(slowest, o.slowest), append(last, o.last), append(known, o.known)
		}
		l := kind.limits
		count(t, kind.name+": calls that failed", number, failed, time.Duration(l.failed))
		count(t, kind.name+": the slowest call", milliseconds, slowest, l.slowest)
		count(t, kind.name+": the last call that failed began after", milliseconds, last, 0)
		count(t, kind.name+": every node that can knows it after", milliseconds, known, l.known)
		count(t, kind.name+": calls that failed after the repair", number, after, 0)
		count(t, kind.name+": requests carried out twice", number, twice, 0)
	}
}

func number(d time.Duration) string { return fmt.Sprint(int(d)) }

func milliseconds(d time.Duration) string {
	if d < 0 {
		return "never"
	}
	return d.Round(time.Millisecond).String()
}

// count prints the median and the largest of the values. Where the largest
// exceeds the limit (0 is none), the test fails, once limits are enforced.
func count(t testing.TB, what string, show func(time.Duration) string, values []time.Duration, limit time.Duration) {
	t.Helper()
	line, right := figures(show, values, limit)
	line = "SOAK\tfailure: " + what + "\t" + line
	switch {
	case right:
		t.Log(line)
	case enforced:
		t.Errorf("%s\tWRONG", line)
	default:
		t.Logf("%s\tabove the limit, which isn't enforced yet", line)
	}
}

// figures are the limit, and the median and the largest of the values, which
// must not exceed it. -1 is more than every other value.
func figures(show func(time.Duration) string, values []time.Duration, limit time.Duration) (line string, right bool) {
	slices.SortFunc(values, func(a, b time.Duration) int { return cmp.Compare(uint64(a), uint64(b)) })
	largest := values[len(values)-1]
	wanted := "-"
	if limit > 0 {
		wanted = "≤ " + show(limit)
	}
	right = limit == 0 || uint64(largest) <= uint64(limit)
	return fmt.Sprintf("%s\tp50 %s, max %s of %d", wanted, show(values[(len(values)-1)/2]), show(largest), len(values)), right
}

func TestFigures(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		show   func(time.Duration) string
		values []time.Duration
		limit  time.Duration
		want   string
		right  bool
	}{
		{number, []time.Duration{0}, 1, "≤ 1\tp50 0, max 0 of 1", true},
		{number, []time.Duration{2, 0, 1}, 1, "≤ 1\tp50 1, max 2 of 3", false},
		{number, []time.Duration{7, 7}, 0, "-\tp50 7, max 7 of 2", true},
		{milliseconds, []time.Duration{1500 * ms, 20 * ms, 30 * ms, 10 * ms}, 1500 * ms, "≤ 1.5s\tp50 20ms, max 1.5s of 4", true},
		{milliseconds, []time.Duration{-1, 20 * ms, 30 * ms}, 1500 * ms, "≤ 1.5s\tp50 30ms, max never of 3", false},
		{milliseconds, []time.Duration{-1}, 0, "-\tp50 never, max never of 1", true},
	} {
		if line, right := figures(c.show, c.values, c.limit); line != c.want || right != c.right {
			t.Errorf("%v: %q %t, want %q %t", c.values, line, right, c.want, c.right)
		}
	}
}

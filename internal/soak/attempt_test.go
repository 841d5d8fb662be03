// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// attempt is one connection as its caller saw it.
type attempt struct {
	id     string
	target int
	start  time.Time
	took   time.Duration // of connect()
	port   uint16        // the caller's, once connected
	result string        // ok, or CALL:ERRNO
}

func (a attempt) line() string {
	return fmt.Sprintf("%s %d %d %d %d %s", a.id, a.target, a.start.UnixNano(), a.took.Nanoseconds(), a.port, a.result)
}

// end is when connect() returned.
func (a attempt) end() time.Time { return a.start.Add(a.took) }

// attempts parses a caller's output.
func attempts(text string) []attempt {
	var out []attempt
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 6 || !strings.HasSuffix(line, "\n") {
			continue
		}
		out = append(out, attempt{id: f[0], target: int(number(f[1])), start: time.Unix(0, number(f[2])),
			took: time.Duration(number(f[3])), port: uint16(number(f[4])), result: f[5]})
	}
	return out
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// tally counts results.
func tally(all []attempt) map[string]int {
	out := map[string]int{}
	for _, a := range all {
		out[a.result]++
	}
	return out
}

// spread is the median, the 99th percentile and the longest.
func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	slices.Sort(all)
	at := func(p int) time.Duration { return all[min(len(all)*p/100, len(all)-1)].Round(time.Microsecond) }
	return fmt.Sprintf("p50 %s, p99 %s, max %s of %d", at(50), at(99), at(100), len(all))
}

func TestAttemptsAreReadBack(t *testing.T) {
	a := attempt{id: "web.1", target: 2, start: time.Unix(3, 4), took: 5, port: 6, result: "read:ECONNRESET"}
	got := attempts(a.line() + "\nend\n" + a.line())
	if len(got) != 1 || got[0] != a {
		t.Errorf("%+v", got)
	}
}

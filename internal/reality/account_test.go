// SPDX-License-Identifier: Apache-2.0

package reality

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// call is one call of `probe calls`.
type call struct {
	number int
	start  time.Time
	took   time.Duration
	result string // "ok", or what failed
	by     string // the instance that answered
}

func (c call) ok() bool { return c.result == "ok" }

// callsOf parses the caller's output. Every call that began must be in it
// once, unless the caller still runs.
func callsOf(text string, ended bool) ([]call, error) {
	var calls []call
	seen, end := map[int]bool{}, -1
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			break // being written
		}
		if _, err := fmt.Sscanf(line, "end %d\n", &end); err == nil {
			continue
		}
		c, err := callOf(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		if seen[c.number] {
			return nil, fmt.Errorf("call %d is there twice", c.number)
		}
		seen[c.number] = true
		calls = append(calls, c)
	}
	if ended && (end != len(calls) || !seen[end]) {
		return nil, fmt.Errorf("%d calls are there, the caller began %d", len(calls), end)
	}
	return calls, nil
}

func callOf(line string) (call, error) {
	f := strings.SplitN(line, " ", 4)
	var c call
	var start, took int64
	if len(f) < 4 {
		return c, fmt.Errorf("not a call: %q", line)
	}
	if _, err := fmt.Sscan(strings.Join(f[:3], " "), &c.number, &start, &took); err != nil {
		return c, fmt.Errorf("not a call: %q: %v", line, err)
	}
	c.start, c.took, c.result = time.UnixMicro(start), time.Duration(took)*time.Microsecond, f[3]
	if by, ok := strings.CutPrefix(f[3], "ok "); ok {
		c.result, c.by = "ok", by
	}
	return c, nil
}

// outcome is what the callers noticed of one failure.
type outcome struct {
	failed  int           // calls that failed, from the failure to the repair
	slowest time.Duration // of all calls in that time
	last    time.Duration // from the failure until the last call began that failed
	known   time.Duration // from the failure until the last node said so; -1: not before the repair
	after   int           // calls that failed during and after the repair
	twice   int           // requests that both instances carried out
	results map[string]int
}

// times are the moments of one run: before and after the failure was caused, and
// before it was repaired.
type times struct{ failure, struck, repair time.Time }

// account compares the caller's calls with the instances' own logs, which map an
// instance to the requests that it carried out. silent is the instance that
// can't have answered, "" where each may. An error means that the run proves nothing.
func account(calls []call, logs map[string]map[string]int, label, silent string, at times) (outcome, error) {
	o := outcome{results: map[string]int{}}
	for _, c := range calls {
		path := fmt.Sprintf("/%s.%d", label, c.number)
		served := 0
		for _, log := range logs {
			served += min(log[path], 1)
		}
		if served > 1 {
			o.twice++
		}
		// nginx writes its log after the answer: a killed one may not have come to it.
		if c.ok() && logs[c.by][path] == 0 && !near(c.start, at.failure) {
			return o, fmt.Errorf("call %d: answered by %q, whose log doesn't have it", c.number, c.by)
		}
		during := c.start.Add(c.took).After(at.failure) && c.start.Before(at.repair)
		switch {
		case during:
			o.slowest = max(o.slowest, c.took)
			if c.ok() && c.by == silent && c.start.After(at.struck.Add(100*time.Millisecond)) && c.start.Add(c.took).Before(at.repair) {
				return o, fmt.Errorf("call %d: answered by %s, which had failed %s before", c.number, silent, c.start.Sub(at.struck))
			}
			if !c.ok() {
				o.failed++
				o.results[c.result]++
				o.last = max(o.last, c.start.Sub(at.failure))
			}
		case !c.ok() && c.start.Before(at.failure):
			return o, fmt.Errorf("call %d failed before the failure: %s", c.number, c.result)
		case !c.ok():
			o.after++
		}
	}
	return o, enough(calls, at)
}

func near(a, b time.Time) bool { return a.Sub(b).Abs() < time.Second }

// enough fails where the calls didn't come at their rate, so that a failure
// would have gone unnoticed.
func enough(calls []call, at times) error {
	n := 0
	for _, c := range calls {
		if c.start.After(at.failure) && c.start.Before(at.repair) {
			n++
		}
	}
	want := int(at.repair.Sub(at.failure).Seconds() * callRate * 8 / 10)
	if n < want || n == 0 {
		return fmt.Errorf("%d calls between failure and repair, want %d or more", n, want)
	}
	return nil
}

func TestCallsOf(t *testing.T) {
	for _, c := range []struct {
		text, want string
		ended      bool
	}{
		{"1 1000 20 ok host2\n2 2000 30 read: ECONNRESET after 0 bytes\nend 2\n", "", true},
		{"1 1000 20 ok host2\n", "", false},
		{"1 1000 20 ok host2\n2 20", "", false},
		{"1 1000 20 ok host2\n", "the caller began -1", true},
		{"1 1000 20 ok host2\n3 1000 20 ok host2\nend 3\n", "2 calls are there", true},
		{"1 1000 20 ok host2\n1 1000 20 ok host2\nend 2\n", "call 1 is there twice", true},
		{"2 1000 20 ok host2\n3 1000 20 ok host2\nend 2\n", "", true},
		{"lookup failed\nend 0\n", "not a call", true},
		{"1 x 20 ok host2\nend 1\n", "not a call", true},
	} {
		calls, err := callsOf(c.text, c.ended)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, %v; want %q", c.text, calls, err, c.want)
		}
	}
	calls, _ := callsOf("7 1000000 20 ok host2\n8 1000000 30 connect: ECONNREFUSED\nend 8\n", false)
	if len(calls) != 2 || calls[0] != (call{7, time.Unix(1, 0), 20 * time.Microsecond, "ok", "host2"}) || calls[1].result != "connect: ECONNREFUSED" || calls[1].by != "" {
		t.Errorf("%+v", calls)
	}
}

// TestAccount: calls at their rate from a second before a failure to a second after
// the repair, three seconds later, of which one at a time is changed.
func TestAccount(t *testing.T) {
	at := times{failure: time.Unix(100, 0), struck: time.Unix(100, 0), repair: time.Unix(103, 0)}
	offset := func(ms int) time.Time { return at.failure.Add(time.Duration(ms) * time.Millisecond) }
	for _, c := range []struct {
		name   string
		change func(calls []call, logs map[string]map[string]int)
		want   outcome
		err    string
	}{
		{"all is well", func([]call, map[string]map[string]int) {}, outcome{slowest: time.Millisecond}, ""},
		{"one fails", func(calls []call, _ map[string]map[string]int) { calls[250].result = "reset" },
			outcome{failed: 1, slowest: time.Millisecond, last: 1500 * time.Millisecond}, ""},
		{"begun before the failure", func(calls []call, _ map[string]map[string]int) {
			calls[95].result, calls[95].took = "reset", 2*time.Second
		}, outcome{failed: 1, slowest: 2 * time.Second}, ""},
		{"one fails after the repair", func(calls []call, _ map[string]map[string]int) { calls[450].result = "reset" },
			outcome{slowest: time.Millisecond, after: 1}, ""},
		{"carried out twice", func(_ []call, logs map[string]map[string]int) { logs["host2"]["/r.250"] = 1 },
			outcome{slowest: time.Millisecond, twice: 1}, ""},
		{"failed too early", func(calls []call, _ map[string]map[string]int) { calls[50].result = "reset" }, outcome{}, "before the failure"},
		{"nobody served it", func(_ []call, logs map[string]map[string]int) { delete(logs["host3"], "/r.250") }, outcome{}, "log doesn't have it"},
		{"nobody of that name", func(calls []call, _ map[string]map[string]int) { calls[250].by = "host9" }, outcome{}, "log doesn't have it"},
		{"the failure had no effect", func(calls []call, logs map[string]map[string]int) {
			calls[250].by, logs["host2"]["/r.250"] = "host2", 1
		}, outcome{}, "which had failed"},
		{"too few", func(calls []call, _ map[string]map[string]int) {
			for i := range calls {
				calls[i].start = offset(-500)
			}
		}, outcome{}, "calls between"},
	} {
		calls, logs := []call{}, map[string]map[string]int{"host2": {}, "host3": {}}
		for n := range 500 {
			calls = append(calls, call{n, offset(10*n - 1000), time.Millisecond, "ok", "host3"})
			logs["host3"][fmt.Sprintf("/r.%d", n)] = 1
		}
		c.change(calls, logs)
		got, err := account(calls, logs, "r", "host2", at)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
		got.results = nil
		if err == nil && fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

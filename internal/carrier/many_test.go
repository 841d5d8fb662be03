// SPDX-License-Identifier: Apache-2.0

package carrier

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// usage is what a daemon holds.
type usage struct {
	descriptors, entries, lanes, flows int
	resident                           int // KiB
}

func usageOf(t *testing.T, h *testhost.Host) (u usage) {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.Current(t).PID()))
	testhost.Must(t, err)
	u.resident, u.descriptors = residentOf(t, h), len(list)
	for _, n := range h.Entries(t) {
		u.entries += n
	}
	u.lanes, u.flows = len(lanesOf(t, h)), live(t, h)
	return u
}

// residentOf is the memory of a daemon, in KiB.
func residentOf(t *testing.T, h *testhost.Host) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.Current(t).PID()))
	testhost.Must(t, err)
	_, rss, _ := strings.Cut(string(status), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rss)[0])
	testhost.Must(t, err)
	return n
}

// lane is one of `tacit status`.
type lane struct{ Peer, Direction string }

func lanesOf(t *testing.T, h *testhost.Host) []lane {
	t.Helper()
	out, exit := h.TryTacit(t, "status", "--json") // 1: something is wrong, for example a node that is silent
	var s struct{ Lanes []lane }
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("tacit status: exit %d, %v: %s", exit, err, out)
	}
	return s.Lanes
}

// live is how many connections a node carries.
func live(t *testing.T, h *testhost.Host) (n int) {
	t.Helper()
	var all struct{ Flows []struct{ Live bool } }
	testhost.Must(t, json.Unmarshal([]byte(h.Tacit(t, "flows", "--json")), &all))
	for _, f := range all.Flows {
		if f.Live {
			n++
		}
	}
	return n
}

// within fails where a value isn't back to the one before: 10 % and a few more are
// as good.
func within(what string, now, before, more int) error {
	if now > before*110/100+more {
		return fmt.Errorf("%s: %d, before %d", what, now, before)
	}
	return nil
}

// back says whether a daemon holds no more than before.
func (u usage) back(before usage) error {
	for _, err := range []error{
		within("descriptors", u.descriptors, before.descriptors, 8),
		within("entries of maps", u.entries, before.entries, 4),
		within("lanes", u.lanes, before.lanes, 2),
		within("live connections", u.flows, before.flows, 0),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// many connections at once, without an error; what they took is given back.
func (f *fixture) many(t *testing.T) {
	remote, count := f.ways[0], size(500, 10_000)
	warm := func() { // what is made once, and kept, is there afterwards
		f.answers(t)
		f.fill(t, remote, count/5)
	}
	warm()
	idle := f.goroutines(t)
	warm()
	rest := func() { // the daemon gives back memory a second after the end of many; what asks it takes some again
		if full() {
			<-time.After(10 * time.Second)
		}
	}
	rest()
	before := map[*testhost.Host]usage{}
	for _, h := range f.Nodes {
		before[h] = usageOf(t, h)
	}
	during, kept := f.fill(t, remote, count), map[*testhost.Host]int{}
	rest()
	for _, h := range f.Nodes {
		kept[h] = residentOf(t, h)
	}
	for _, h := range f.Nodes {
		b, d := before[h], during[h]
		per := float64(d.descriptors-b.descriptors) / float64(count)
		figure(t, h.Name+": descriptors for each connection", "1", fmt.Sprintf("%.2f", per), per < 1.1)
		figure(t, h.Name+": lanes", "-", d.lanes, true)
		testhost.Eventually(t, 10*time.Second, h.Name+" holds no more than before", func() error { return usageOf(t, h).back(b) })
	}
	both := 0.0
	for _, h := range f.Nodes {
		both += float64(during[h].resident-before[h].resident) / float64(count)
		figure(t, h.Name+": KiB that the daemon keeps", "<= 110 %", fmt.Sprintf("%d, before %d", kept[h], before[h].resident),
			within("", kept[h], before[h].resident, 0) == nil)
	}
	figure(t, "KiB of both daemons for each connection", "<= 24", fmt.Sprintf("%.1f", both), both <= 24)
	for h, stacks := range f.goroutines(t) {
		figure(t, h.Name+": goroutines left", "<= 110 %", fmt.Sprintf("%d, before %d", len(stacks), len(idle[h])), true)
		if err := within("goroutines", len(stacks), len(idle[h]), 10); err != nil {
			t.Errorf("%s: %v:\n%s", h.Name, err, strings.Join(stacks[:min(20, len(stacks))], "\n\n"))
		}
	}
}

// goroutines are those of both daemons at one moment, which ends them; then they start
// again.
func (f *fixture) goroutines(t *testing.T) map[*testhost.Host][]string {
	t.Helper()
	stacks, texts := map[*testhost.Host][]string{}, make([][]string, len(f.Nodes))
	var wg sync.WaitGroup
	for i, h := range f.Nodes {
		wg.Go(func() { texts[i] = h.Goroutines(t) })
	}
	wg.Wait()
	for i, h := range f.Nodes {
		stacks[h] = texts[i]
		h.Daemon(f.t)
	}
	return stacks
}

// fill opens connections on a way, and ends them when it has looked what they take.
func (f *fixture) fill(t *testing.T, w way, count int) map[*testhost.Host]usage {
	t.Helper()
	s := w.start(t, count, "hold").up(t)
	during := map[*testhost.Host]usage{}
	for _, h := range f.Nodes {
		during[h] = usageOf(t, h)
	}
	s.stop(t)
	return during
}

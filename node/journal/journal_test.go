// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"math"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tacit/node/api"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/tproxy"
)

// counted is what a kernel has counted.
type counted struct {
	lost    map[policy.Reason]uint64
	directs map[kernel.Direct]kernel.Sum
	err     error
}

func (c *counted) Counters() (given, lost map[policy.Reason]uint64, err error) {
	return nil, c.lost, c.err
}

func (c *counted) Directs() (map[kernel.Direct]kernel.Sum, error) { return c.directs, c.err }

func newJournal(t *testing.T, k Kernel) *Journal {
	t.Helper()
	j, err := New(k)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func totals(t *testing.T, j *Journal) api.FlowTotals {
	t.Helper()
	out, err := j.Totals()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestJournalAfter: which records a caller gets who has seen some, once more
// were added than the journal holds: the oldest quarter went.
func TestJournalAfter(t *testing.T) {
	const quarter = size / 4
	for name, c := range map[string]struct {
		added, after uint64
		first, n     uint64
	}{
		"empty":                     {added: 0, after: 0},
		"all":                       {added: 3, after: 0, first: 1, n: 3},
		"new ones":                  {added: 3, after: 2, first: 3, n: 1},
		"none are new":              {added: 3, after: 3},
		"a number of another start": {added: 3, after: 900},
		"the highest number":        {added: 3, after: math.MaxUint64},
		"half of all numbers":       {added: 3, after: math.MaxInt64},
		"just full":                 {added: size, after: 0, first: 1, n: size},
		"one more":                  {added: size + 1, after: 0, first: quarter + 1, n: size - quarter + 1},
		"full again":                {added: size + quarter, after: 0, first: quarter + 1, n: size},
		"and one more":              {added: size + quarter + 1, after: 0, first: 2*quarter + 1, n: size - quarter + 1},
		"what is gone":              {added: size + 1, after: quarter - 1, first: quarter + 1, n: size - quarter + 1},
		"what just stayed":          {added: size + 1, after: quarter + 1, first: quarter + 2, n: size - quarter},
	} {
		j := newJournal(t, &counted{})
		for range c.added {
			j.Ended(tproxy.Flow{})
		}
		got, last, err := j.After(c.after)
		if err != nil || last != c.added || uint64(len(got)) != c.n {
			t.Errorf("%s: %d records up to %d, want %d up to %d", name, len(got), last, c.n, c.added)
			continue
		}
		for i, r := range got {
			if r.Seq != c.first+uint64(i) {
				t.Errorf("%s: record %d has the number %d, want %d", name, i, r.Seq, c.first+uint64(i))
				break
			}
		}
	}
}

// TestJournalIsShared: many add and read at once; no number is given twice.
func TestJournalIsShared(t *testing.T) {
	j := newJournal(t, &counted{})
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 200 {
				j.Ended(tproxy.Flow{})
				_, _, _ = j.After(0)
			}
		})
	}
	work.Wait()
	all, last, _ := j.After(0)
	for i := 1; i < len(all); i++ {
		if all[i].Seq != all[i-1].Seq+1 {
			t.Fatalf("%d follows %d", all[i].Seq, all[i-1].Seq)
		}
	}
	if last != 1600 || all[len(all)-1].Seq != last {
		t.Errorf("the last number is %d, want 1600", last)
	}
}

// TestAlike: refusals that are alike are one record for a second, or until it is read;
// totals and the dropped ones count each.
func TestAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal(t, &counted{})
		to := netip.MustParseAddrPort("240.64.0.5:6379")
		refused := func(n int, program string) {
			for range n {
				j.Refused(kernel.Event{Time: time.Now(), Source: "web", Destination: "cache", Reason: policy.ReasonDefault, Target: to, PID: 7, Comm: program})
			}
		}
		want := func(after, last uint64, counts ...uint64) {
			t.Helper()
			got, n, err := j.After(after)
			if err != nil || n != last || len(got) != len(counts) {
				t.Fatalf("%+v up to %d, %v; want %d up to %d", got, n, err, len(counts), last)
			}
			for i, r := range got {
				if r.Count != counts[i] {
					t.Errorf("record %d stands for %d, want %d", i, r.Count, counts[i])
				}
			}
		}
		refused(5, "psql")
		<-time.After(time.Millisecond)
		refused(3, "curl")
		want(0, 2, 5, 3)
		refused(2, "psql")
		<-time.After(2 * time.Second)
		refused(1, "psql")
		want(2, 4, 2, 1)
		for i := range 5000 { // each of another kind: memory is bounded
			refused(1, string(rune('a'+i)))
			if len(j.alike.byKey) > alikeLimit {
				t.Fatalf("%d kinds are gathered", len(j.alike.byKey))
			}
		}
		got := totals(t, j)
		if len(got.Totals) != 1 || got.Totals[0] != (api.FlowTotal{Direction: api.DirectionHook, Reason: policy.ReasonDefault, Count: 5011}) {
			t.Errorf("totals %+v", got.Totals)
		}
		all, _, _ := j.After(0)
		for _, r := range all {
			got.Dropped += r.Count
		}
		if got.Dropped != 5011 || len(all) > size {
			t.Errorf("%d records; with those that were dropped they stand for %d, want 5011", len(all), got.Dropped)
		}
	})
}

// TestDirects: what the kernel sums is a record for what came since the last look;
// what it counted before the daemon's start isn't.
func TestDirects(t *testing.T) {
	d := kernel.Direct{Source: "web", Destination: "api", Port: 80, Reason: policy.ReasonClosed}
	k := &counted{directs: map[kernel.Direct]kernel.Sum{d: {Connections: 10, Sent: 100, Received: 1000}}, lost: map[policy.Reason]uint64{policy.ReasonPort: 2}}
	j := newJournal(t, k)
	if all, _, err := j.After(0); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	for n := range uint64(3) {
		k.directs = map[kernel.Direct]kernel.Sum{d: {Connections: 11 + n, Sent: 103 + 3*n, Received: 1004 + 4*n}}
		all, _, err := j.After(n)
		if err != nil || len(all) != 1 || all[0].Count != 1 || all[0].Sent != 3 || all[0].Received != 4 || all[0].Direction != api.DirectionDirect {
			t.Fatalf("%+v, %v", all, err)
		}
	}
	k.lost = map[policy.Reason]uint64{policy.ReasonPort: 2, policy.ReasonUDP: 5}
	got := totals(t, j)
	if len(got.Totals) != 1 || got.Totals[0].Count != 3 || got.Totals[0].Received != 12 || len(got.Lost) != 1 || got.Lost[policy.ReasonUDP] != 5 {
		t.Errorf("%+v", got)
	}
	k.err = errors.New("broken")
	if _, _, err := j.After(0); err == nil {
		t.Error("a journal that can't ask the kernel answers")
	}
}

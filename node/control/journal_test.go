// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
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

// TestJournalAfter: which records a caller gets who has seen some, once more
// were added than the journal holds: the oldest quarter went.
func TestJournalAfter(t *testing.T) {
	const quarter = journalSize / 4
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
		"just full":                 {added: journalSize, after: 0, first: 1, n: journalSize},
		"one more":                  {added: journalSize + 1, after: 0, first: quarter + 1, n: journalSize - quarter + 1},
		"full again":                {added: journalSize + quarter, after: 0, first: quarter + 1, n: journalSize},
		"and one more":              {added: journalSize + quarter + 1, after: 0, first: 2*quarter + 1, n: journalSize - quarter + 1},
		"what is gone":              {added: journalSize + 1, after: quarter - 1, first: quarter + 1, n: journalSize - quarter + 1},
		"what just stayed":          {added: journalSize + 1, after: quarter + 1, first: quarter + 2, n: journalSize - quarter},
	} {
		var j Journal
		for range c.added {
			j.add(api.FlowRecord{})
		}
		got, last := j.after(c.after)
		if last != c.added || uint64(len(got)) != c.n {
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
	var j Journal
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 200 {
				j.Ended(tproxy.Flow{})
				j.after(0)
			}
		})
	}
	work.Wait()
	all, last := j.after(0)
	for i := 1; i < len(all); i++ {
		if all[i].Seq != all[i-1].Seq+1 {
			t.Fatalf("%d follows %d", all[i].Seq, all[i-1].Seq)
		}
	}
	if last != 1600 || all[len(all)-1].Seq != last {
		t.Errorf("the last number is %d, want 1600", last)
	}
}

// TestFlows: a refusal of the kernel, an ended stream, and a live one, whose
// time still runs.
func TestFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		at := netip.MustParseAddrPort
		begin := time.Now()
		f.Journal.Refused(kernel.Event{Time: begin, Source: "web", Destination: "cache", Reason: policy.ReasonDefault, Target: at("240.64.0.5:6379"), PID: 7, Comm: "psql"})
		f.Journal.Ended(tproxy.Flow{Source: "web", Destination: "db", Node: "host2", Direction: tproxy.DirectionOut, Client: at("10.0.0.1:1000"), Port: 5432,
			Start: begin, Duration: time.Second, Sent: 3, Received: 4, End: policy.ReasonClosed})
		f.proxy.flows = []tproxy.Flow{{Source: "api", Destination: "db", Node: "host3", Direction: tproxy.DirectionIn, Port: 5432, DialledFrom: at("127.0.0.1:999"), Start: begin, Sent: 5}}
		<-time.After(2 * time.Second)
		for after, want := range map[uint64]string{
			0: `1 web>cache hook default 240.64.0.5:6379 psql/7
2 web>db out closed for 1s, 3 and 4 bytes with host2
live api>db in for 2s, 5 and 0 bytes with host3`,
			1: `2 web>db out closed for 1s, 3 and 4 bytes with host2
live api>db in for 2s, 5 and 0 bytes with host3`,
			2: "live api>db in for 2s, 5 and 0 bytes with host3",
		} {
			list, err := f.Host.Flows(t.Context(), after)
			if err != nil || list.Last != 2 {
				t.Fatalf("%+v, %v", list, err)
			}
			got := ""
			for _, r := range list.Flows {
				got += flowLine(r) + "\n"
			}
			differs(t, fmt.Sprintf("after %d", after), got, want)
		}
	})
}

func flowLine(r api.FlowRecord) string {
	switch {
	case r.Direction == "hook":
		return fmt.Sprintf("%d %s>%s %s %s %s %s/%d", r.Seq, r.Source, r.Destination, r.Direction, r.Reason, r.Target, r.Program, r.PID)
	case r.Live:
		return fmt.Sprintf("live %s>%s %s for %s, %d and %d bytes with %s", r.Source, r.Destination, r.Direction, r.Duration, r.Sent, r.Received, r.Node)
	}
	return fmt.Sprintf("%d %s>%s %s %s for %s, %d and %d bytes with %s", r.Seq, r.Source, r.Destination, r.Direction, r.Reason, r.Duration, r.Sent, r.Received, r.Node)
}

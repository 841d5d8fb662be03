// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tacit/node/api"
	"tacit/node/api/flow"
	"tacit/tproxy"
)

// TestFlows: what the journal has after a number, its totals, and the live streams,
// whose time still runs.
func TestFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.journal.records = []api.FlowRecord{{Seq: 7, Source: "web"}}
		f.journal.totals = api.FlowTotals{Dropped: 3}
		f.proxy.flows = []tproxy.Flow{{Source: "api", Direction: tproxy.DirectionIn, Start: time.Now(), Sent: 5}}
		<-time.After(2 * time.Second)
		list, err := f.Host.Flows(t.Context(), flow.Query{After: 6})
		if err != nil || f.journal.after != 6 || list.Last != 7 || list.Dropped != 3 || len(list.Flows) != 2 {
			t.Fatalf("%+v, %v", list, err)
		}
		if live := list.Flows[1]; !live.Live || live.Count != 1 || live.Duration != 2*time.Second || live.Sent != 5 || list.Flows[0].Seq != 7 {
			t.Errorf("%+v", list.Flows)
		}
		f.journal.err = errors.New("broken")
		if _, err := f.Host.Flows(t.Context(), flow.Query{}); err == nil {
			t.Error("flows without a journal")
		}
	})
}

// TestFlowsAskedFor: only what is asked for is sent, with its verdict, live connections
// in the order in which they began, and with the number of records that are gone.
func TestFlowsAskedFor(t *testing.T) {
	f := newFixture(t)
	now := time.Now()
	f.journal.records = []api.FlowRecord{{Seq: 10, Source: "web", Destination: "db", Direction: flow.Hook, Reason: "default"}, {Seq: 11, Source: "web", Destination: "api", Reason: "closed"}}
	f.proxy.flows = []tproxy.Flow{{Source: "web", Destination: "db", Port: 2, Start: now}, {Source: "web", Destination: "db", Port: 1, Start: now.Add(-time.Second)}, {Source: "api", Destination: "api"}}
	for _, c := range []struct {
		q      flow.Query
		ports  []uint16 // of live ones
		others int
		missed uint64
	}{
		{flow.Query{Service: "db"}, []uint16{1, 2}, 1, 0},
		{flow.Query{After: 6, Verdict: flow.Refused}, nil, 1, 3},
		{flow.Query{After: 6, Source: "nobody"}, nil, 0, 3},
		{flow.Query{Live: flow.LiveOnly, Service: "db"}, []uint16{1, 2}, 0, 0},
		{flow.Query{After: 9, Live: flow.LiveNot}, nil, 2, 0},
	} {
		list, err := f.Host.Flows(t.Context(), c.q)
		if err != nil {
			t.Fatal(err)
		}
		var ports []uint16
		for _, r := range list.Flows {
			if r.Verdict == "" {
				t.Errorf("%+v: %+v has no verdict", c.q, r)
			}
			if r.Live {
				ports = append(ports, r.Port)
			}
		}
		if !slices.Equal(ports, c.ports) || len(list.Flows)-len(ports) != c.others || list.Missed != c.missed {
			t.Errorf("%+v: live %v, %d others, %d missed; want %v, %d, %d", c.q, ports, len(list.Flows)-len(ports), list.Missed, c.ports, c.others, c.missed)
		}
	}
}

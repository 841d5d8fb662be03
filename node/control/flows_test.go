// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"tacit/node/api"
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
		list, err := f.Host.Flows(t.Context(), 6)
		if err != nil || f.journal.after != 6 || list.Last != 7 || list.Dropped != 3 || len(list.Flows) != 2 {
			t.Fatalf("%+v, %v", list, err)
		}
		if live := list.Flows[1]; !live.Live || live.Count != 1 || live.Duration != 2*time.Second || live.Sent != 5 || list.Flows[0].Seq != 7 {
			t.Errorf("%+v", list.Flows)
		}
		f.journal.err = errors.New("broken")
		if _, err := f.Host.Flows(t.Context(), 0); err == nil {
			t.Error("flows without a journal")
		}
	})
}

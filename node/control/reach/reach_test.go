// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"tacit/node/api"
)

// TestCount: every member counts, the dead included, or those that answer; who
// doesn't answer is named either way, and what it has signed before counts.
func TestCount(t *testing.T) {
	since := time.Unix(1000, 0)
	done, late := Member{Name: "done", Alive: true, Done: true}, Member{Name: "late", Alive: true}
	dead, said := Member{Name: "dead", Since: since}, Member{Name: "said", Since: since, Done: true}
	for name, c := range map[string]struct {
		members []Member
		live    bool
		done    int
		want    api.Counted
	}{
		"all are done":      {[]Member{done}, false, 1, api.Counted{Nodes: 1}},
		"one is late":       {[]Member{late, done}, false, 1, api.Counted{Nodes: 2, Waiting: []string{"late"}}},
		"one is dead":       {[]Member{done, dead}, false, 1, api.Counted{Nodes: 2, Waiting: []string{"dead"}, Unreached: []api.Unreached{{Name: "dead", Since: since}}}},
		"one died after it": {[]Member{done, said}, false, 2, api.Counted{Nodes: 2, Unreached: []api.Unreached{{Name: "said", Since: since, InForce: true}}}},
		"the living": {[]Member{done, dead, said, late}, true, 1, api.Counted{Nodes: 2, Live: true, Waiting: []string{"late"},
			Unreached: []api.Unreached{{Name: "dead", Since: since}, {Name: "said", Since: since, InForce: true}}}},
		"nobody": {nil, false, 0, api.Counted{}},
	} {
		if got, of := Count(c.members, c.live); got != c.done || !reflect.DeepEqual(of, c.want) {
			t.Errorf("%s: %d of %+v, want %d of %+v", name, got, of, c.done, c.want)
		}
	}
}

// TestAwait: until it is done, the time is up or the caller goes away.
func TestAwait(t *testing.T) {
	for name, c := range map[string]struct {
		p           Patience
		after, gone time.Duration // 0: never
		want        time.Duration
	}{
		"done":       {Patience{Wait: true}, time.Second, 0, time.Second},
		"never done": {Patience{Wait: true}, 0, 0, api.DefaultWait},
		"a limit":    {Patience{Wait: true, Limit: time.Minute}, 0, 0, time.Minute},
		"gone":       {Patience{Wait: true}, 0, 2 * time.Second, 2 * time.Second},
		"only look":  {Patience{}, 0, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			if c.gone > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.gone)
				defer cancel()
			}
			c.p.Began = time.Now()
			got := c.p.Await(ctx, func() bool { return c.after > 0 && time.Since(c.p.Began) >= c.after })
			if late := got - c.want; late < -interval || late > 2*interval {
				t.Errorf("%s: %s, want %s", name, got, c.want)
			}
		})
	}
}

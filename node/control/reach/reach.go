// SPDX-License-Identifier: Apache-2.0

// Package reach counts on which members a change is in force, and waits until it is
// so on all of them. It must not find out what a member has in force: it is told.
package reach

import (
	"cmp"
	"context"
	"slices"
	"time"

	"tacit/identity"
	"tacit/node/api"
)

// Member is what is known of one.
type Member struct {
	Name  identity.Name
	Alive bool
	Since time.Time // when it ceased to answer, unless it is alive
	Done  bool      // it says that the change is in force on it
}

// Count returns on how many members the change is in force, of how many that count:
// all of them, or with live those that answer. Members that don't answer are named
// in any case.
func Count(members []Member, live bool) (done int, of api.Counted) {
	of.Live = live
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	for _, m := range members {
		if !m.Alive {
			of.Unreached = append(of.Unreached, api.Unreached{Name: m.Name, Since: m.Since, InForce: m.Done})
			if live {
				continue
			}
		}
		of.Nodes++
		if m.Done {
			done++
		} else {
			of.Waiting = append(of.Waiting, string(m.Name))
		}
	}
	return done, of
}

// Patience is how long somebody waits for a change.
type Patience struct {
	Began time.Time
	Wait  bool          // false: only look
	Limit time.Duration // 0: api.DefaultWait
}

const interval = 2 * time.Millisecond

// Await looks until nothing is left to wait for, or the time is up.
func (p Patience) Await(ctx context.Context, look func() (done bool)) (elapsed time.Duration) {
	limit := cmp.Or(p.Limit, api.DefaultWait)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		done := look()
		elapsed = time.Since(p.Began)
		if !p.Wait || done || elapsed > limit {
			return elapsed
		}
		select {
		case <-ctx.Done():
			return elapsed
		case <-tick.C:
		}
	}
}

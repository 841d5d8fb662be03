// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"slices"
	"time"

	"tacit/node/api"
)

// awaitNames returns once every live node answers the names that this one answers,
// or the time is up.
func (s services) awaitNames(ctx context.Context, limit time.Duration) *api.Spread {
	began := time.Now()
	tick := time.NewTicker(awaitInterval)
	defer tick.Stop()
	for {
		out := s.spread()
		out.Elapsed = time.Since(began)
		if len(out.Waiting) == 0 || out.Elapsed > limit {
			return out
		}
		select {
		case <-ctx.Done():
			return out
		case <-tick.C:
		}
	}
}

// spread is where the names of this node's catalog are answered.
func (s services) spread() *api.Spread {
	out, want := &api.Spread{}, s.Loop.Catalog().Digest()
	alive, said := s.Alive(), s.Records.Revisions()
	for _, m := range s.Records.View().Members() {
		if !alive[m.Node] {
			continue
		}
		out.Nodes++
		if m.Node == s.Settings.Name || said[m.Node].Names == want {
			out.Resolves++
		} else {
			out.Waiting = append(out.Waiting, string(m.Node))
		}
	}
	slices.Sort(out.Waiting)
	return out
}

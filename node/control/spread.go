// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"time"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/control/reach"
)

// members says of each member whether it answers, and whether something is done on
// it.
func (k *control) members(done func(self bool, node identity.Name) bool) []reach.Member {
	var out []reach.Member
	alive, absent := k.Alive(), k.Loop.Absent()
	for _, m := range k.Records.View().Members() {
		self := m.Node == k.Settings.Name
		one := reach.Member{Name: m.Node, Alive: alive[m.Node] || self, Done: done(self, m.Node)}
		if !one.Alive {
			one.Since = absent[m.Node]
			if one.Since.IsZero() {
				one.Since = k.Started // it has never answered this daemon
			}
		}
		out = append(out, one)
	}
	return out
}

// await fills in where the policy that should be in force is so: once it is
// everywhere, or the time is up.
func (n intentions) await(ctx context.Context, live bool, p reach.Patience, out *api.Reach) {
	out.Elapsed = p.Await(ctx, func() bool {
		digests, want := n.digests(), n.Loop.Digest()
		out.InForce, out.Counted = reach.Count(n.members(func(_ bool, node identity.Name) bool { return inForce(digests[node], want) }), live)
		return len(out.Waiting) == 0
	})
}

// inForce says whether a member that announced a digest has the policy in force.
func inForce(digest, want string) bool { return digest != "" && digest == want }

// awaitNames returns once the members answer the names that this one answers, or
// the time is up. A member that doesn't answer gossip answers no names either.
func (s services) awaitNames(ctx context.Context, live bool, limit time.Duration) *api.Spread {
	out, p := &api.Spread{}, reach.Patience{Began: time.Now(), Wait: true, Limit: limit}
	out.Elapsed = p.Await(ctx, func() bool {
		alive, said, want := s.Alive(), s.Records.Revisions(), s.Loop.Catalog().Digest()
		out.Resolves, out.Counted = reach.Count(s.members(func(self bool, node identity.Name) bool {
			return self || alive[node] && said[node].Names == want
		}), live)
		return len(out.Waiting) == 0
	})
	return out
}

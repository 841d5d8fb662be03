// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"maps"
	"net/netip"
	"time"

	"tacit/identity"
)

const (
	sightFor   = time.Hour // since a member's last handshake
	maxPerNode = 16        // addresses of one member
	maxSeen    = 4096
)

// sightings are the addresses from which members have completed handshakes: one
// with several interfaces, or behind a translator, comes from others than its
// record says.
type sightings map[netip.Addr]sighting

type sighting struct {
	node identity.Name
	at   time.Time
}

// has doesn't count a node that is no member any more.
func (s sightings) has(a netip.Addr, now time.Time, roll Roll) bool {
	one, ok := s[a]
	return ok && now.Sub(one.at) < sightFor && roll.Member(one.node)
}

// Seen says that a member has completed a handshake from an address: from now on
// it counts as a member's.
func (g *Gate) Seen(from netip.Addr, node identity.Name) {
	from, now := from.Unmap().WithZone(""), time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if old, ok := g.seen[from]; ok && old.node == node || g.seen.room(node, now) {
		g.seen[from] = sighting{node, now}
	}
}

// room says whether one more address of a node may be remembered.
func (s sightings) room(node identity.Name, now time.Time) bool {
	n := 0
	maps.DeleteFunc(s, func(_ netip.Addr, one sighting) bool {
		if one.node == node {
			n++
		}
		return now.Sub(one.at) >= sightFor
	})
	return n < maxPerNode && len(s) < maxSeen
}

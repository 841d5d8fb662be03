// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"tacit/identity"
)

// Room is how full a map is, in entries.
type Room struct {
	What string // the map, or whose share of one
	Used uint64
	Of   uint64
}

// Full says that no new entry fits.
func (r Room) Full() bool { return r.Used >= r.Of }

// Room returns how full each map of the registry is, and how many captured
// connections the daemon has not accepted yet: in all, and for each of the sources,
// which have a share of that map each.
func (k *Kernel) Room(sources []identity.Name) ([]Room, error) {
	var out []Room
	k.mu.Lock()
	for _, m := range k.maps {
		out = append(out, m.room())
	}
	k.mu.Unlock()
	capacity, share := k.conf.Objects.Connecting()
	all, err := k.conf.Objects.Usage(0)
	if err != nil {
		return nil, err
	}
	out = append(out, Room{"connections on their way", all, uint64(capacity)})
	for _, name := range sources {
		used, err := k.conf.Objects.Usage(k.conf.Numbers.Number(name))
		if err != nil {
			return nil, err
		}
		out = append(out, Room{"connections of " + string(name) + " on their way", used, uint64(share)})
	}
	return out, nil
}

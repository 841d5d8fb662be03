// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"tacit/identity"
)

// Room is what a map holds, and can hold.
type Room struct {
	What string
	Used uint64
	Of   uint64
}

// Full says that nothing new fits.
func (r Room) Full() bool { return r.Used >= r.Of }

// Room says how full the maps are that others can fill: sources are those of
// whose captured connections only a part may be on their way at once.
func (k *Kernel) Room(sources []identity.Name) ([]Room, error) {
	capacity, share := k.conf.Objects.Connecting()
	k.mu.Lock()
	out := []Room{
		{"intentions", uint64(len(k.maps.intentions.held)), uint64(k.maps.intentions.table.Capacity())},
		{"workloads", uint64(len(k.maps.workloads.held)), uint64(k.maps.workloads.table.Capacity())},
	}
	k.mu.Unlock()
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

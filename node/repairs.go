// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"tacit/node/api"
)

// shownFor is how long status tells of a repair.
const shownFor = time.Minute

// repairs remembers what was found changed by others and put right.
type repairs struct {
	mu   sync.Mutex
	last map[string]repair // by object: "hook connect4", "map ports"
}

type repair struct {
	found string
	at    time.Time
	count int // since the start
}

func (r *repairs) note(object, found string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[string]repair{}
	}
	r.last[object] = repair{found, time.Now(), r.last[object].count + 1}
}

// checks tell of the repairs of the last minute: "repaired hook connect4", "3 s
// ago: detached". Nothing is wrong any more, so they are ok.
func (r *repairs) checks() []api.Check {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []api.Check
	for _, object := range slices.Sorted(maps.Keys(r.last)) {
		one := r.last[object]
		ago := time.Since(one.at)
		if ago > shownFor {
			continue
		}
		says := fmt.Sprintf("%.0f s ago: %s", ago.Seconds(), one.found)
		if one.count > 1 {
			says += fmt.Sprintf(" (%d times since the start)", one.count)
		}
		out = append(out, api.Check{Name: "repaired " + object, OK: true, Reason: says})
	}
	return out
}

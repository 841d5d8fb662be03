// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// shownFor is how long status tells of a repair.
const shownFor = time.Minute

// repairs remembers what was found changed by others and put right.
type repairs struct {
	mu   sync.Mutex
	last map[string]repair // by group and object
}

type repair struct {
	found string
	at    time.Time
	count int // since the start
}

func (r *repairs) note(group, object, found string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[string]repair{}
	}
	key := group + " " + object
	r.last[key] = repair{found, time.Now(), r.last[key].count + 1}
}

// says tells of a group's repairs of the last minute: "; repaired connect4 3 s
// ago: detached". It is "" when there were none.
func (r *repairs) says(group string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out strings.Builder
	for _, key := range slices.Sorted(maps.Keys(r.last)) {
		object, ok := strings.CutPrefix(key, group+" ")
		one := r.last[key]
		ago := time.Since(one.at)
		if !ok || ago > shownFor {
			continue
		}
		fmt.Fprintf(&out, "; repaired %s %.0f s ago: %s", object, ago.Seconds(), one.found)
		if one.count > 1 {
			fmt.Fprintf(&out, " (%d times since the start)", one.count)
		}
	}
	return out.String()
}

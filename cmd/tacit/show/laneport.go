// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"tacit/node/api"
)

// LanePort is what the lane port refused, "" if nothing.
func LanePort(p api.LanePort) string {
	var out []string
	for _, part := range []struct {
		what   string
		counts map[api.Reason]uint64
	}{{"connections refused", p.Refused}, {"lanes cut", p.Cut}} {
		if len(part.counts) == 0 {
			continue
		}
		var sums []string
		for _, reason := range slices.Sorted(maps.Keys(part.counts)) {
			sums = append(sums, fmt.Sprintf("%d %s", part.counts[reason], reason))
		}
		out = append(out, part.what+": "+strings.Join(sums, ", "))
	}
	return strings.Join(out, "; ")
}

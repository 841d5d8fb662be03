// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"slices"
	"strings"

	"tacit/node/api"
	"tacit/node/health"
	"tacit/node/limits"
)

// unexamined is the hint of a check that failed for want of descriptors or memory:
// it says nothing of what it examines.
const unexamined = "see descriptors and memory"

const (
	hintDescriptors = "raise LimitNOFILE of the unit; at once: prlimit --pid $(pidof tacitd) --nofile=N:N (docs/limits.md)"
	hintMemory      = "raise the limit of memory of the daemon's cgroup (docs/limits.md)"
)

// gatherShort leaves one check in the place of all that failed for want of descriptors
// or memory.
func (h host) gatherShort(checks []api.Check) []api.Check {
	var unseen []string
	checks = slices.DeleteFunc(checks, func(c api.Check) bool {
		if c.Hint == unexamined {
			unseen = append(unseen, c.Name)
		}
		return c.Hint == unexamined
	})
	for key := range h.Board.Short() {
		unseen = append(unseen, string(key.Family))
	}
	slices.Sort(unseen)
	use := h.Proxy.Descriptors()
	descriptors := h.checkUse(health.Descriptors, fmt.Sprintf("%d of %d in use", use.Used, use.Limit))
	memory := h.checkUse(health.Memory, inMiB(h.Proxy.Memory()))
	blame := &descriptors
	if descriptors.OK && !memory.OK {
		blame = &memory
	}
	if unseen = slices.Compact(unseen); len(unseen) > 0 {
		blame.OK, blame.Reason = false, blame.Reason+"; couldn't be examined or done: "+strings.Join(unseen, ", ")
	}
	if !descriptors.OK {
		descriptors.Hint = hintDescriptors
	}
	if !memory.OK {
		memory.Hint = hintMemory
	}
	return append(checks, descriptors, memory)
}

func (h host) checkUse(f health.Family, use string) api.Check {
	c := h.checkOf(f)
	if c.OK {
		c.Reason = use
	}
	return c
}

func inMiB(u limits.Use) string {
	if u.Limit == 0 {
		return "no limit"
	}
	return fmt.Sprintf("%d of %d MiB in use", u.Used>>20, u.Limit>>20)
}

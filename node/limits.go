// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"strings"

	"tacit/node/api"
)

// checkLimits says which of the kernel's maps are full: what is new to them is
// refused, what is in them lives on.
func (b backend) checkLimits() api.Check {
	rooms, err := b.n.kernel.Room(b.n.local.Load().names())
	if err != nil {
		return check("limits", err, "restart tacitd")
	}
	var full []string
	for _, r := range rooms {
		if r.Full() {
			full = append(full, fmt.Sprintf("%d of %d %s: new ones are refused", r.Used, r.Of, r.What))
		}
	}
	if len(full) > 0 {
		return api.Check{Name: "limits", Reason: strings.Join(full, "; "),
			Hint: "run tacitd cleanup, and start it with larger --max-intentions, --max-workloads or --max-connecting"}
	}
	return api.Check{Name: "limits", OK: true}
}

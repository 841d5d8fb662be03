// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"

	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/node/api"
)

// Resolver adds what operators have set for a service's connections, and what
// follows from it now.
func Resolver(t *table.Table, r *api.Resolver) {
	if r == nil {
		return
	}
	for _, s := range r.Sets {
		line := fmt.Sprintf("%s: %s; %d of %d healthy", s.Name, r.Subsets[s.Name], s.Healthy, s.Instances)
		if weight, split := r.Split[s.Name]; split {
			line += fmt.Sprintf("; weight %d, now %d %% of new connections", weight, s.Percent)
		}
		t.Row("subset", line)
	}
	if len(r.Failover) > 0 {
		line := text.List(r.Failover)
		if r.Standby != "" {
			line += fmt.Sprintf("; %s answers now", r.Standby)
		}
		t.Row("failover", line)
	}
	signed := text.List(r.SignedBy)
	if r.Conflict {
		signed += "; in conflict: apply it again"
	}
	t.Row("signed by", signed)
}

// PlannedRules is one row of a plan.
func PlannedRules(p api.PlannedRules) []any {
	name := fmt.Sprintf("resolver %s", p.Service)
	switch p.Operation {
	case api.OperationAdd:
		return []any{"+", fmt.Sprintf("%s: %s", name, p.After), p.From}
	case api.OperationRemove:
		return []any{"-", fmt.Sprintf("%s: %s", name, p.Before), ""}
	}
	was := p.Before.String()
	if p.Conflict {
		was = "in conflict"
	}
	return []any{"~", fmt.Sprintf("%s: %s (was %s)", name, p.After, was), p.From}
}

// Destination names the service that answers, and the called one where that is
// another.
func Destination(answers, called api.Name) string {
	if called != "" {
		return fmt.Sprintf("%s (for %s)", answers, called)
	}
	return text.OrDash(string(answers))
}

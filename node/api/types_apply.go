// SPDX-License-Identifier: Apache-2.0

package api

import "time"

// Wanted is one intention of a file.
type Wanted struct {
	Source      Name   `json:"source"` // or "*"
	Destination Name   `json:"destination"`
	Action      Change `json:"action"` // allow or deny
	Description string `json:"description,omitempty"`
	From        string `json:"from,omitempty"` // file:line
}

// WantedRules are what a file sets for the connections to one service.
type WantedRules struct {
	Rules
	From string `json:"from,omitempty"` // file:line
}

// ApplyRequest makes the intentions and resolvers that it lists, all of them or none.
type ApplyRequest struct {
	Intentions []Wanted      `json:"intentions"`
	Resolvers  []WantedRules `json:"resolvers,omitempty"`
	Prune      bool          `json:"prune,omitempty"` // delete every intention and resolver that isn't listed
	Yes        bool          `json:"yes,omitempty"`   // even if that is more than a tenth of them
	DryRun     bool          `json:"dry_run,omitempty"`
	Wait       bool          `json:"wait,omitempty"`
	Live       bool          `json:"live,omitempty"`       // with Wait: members that don't answer aren't counted
	Timeout    time.Duration `json:"timeout_ns,omitempty"` // of Wait; 0: DefaultWait, at most MaxWait
}

// Operation is what an apply does to one intention or resolver.
type Operation string

// The operations.
const (
	OperationAdd    Operation = "add"
	OperationChange Operation = "change"
	OperationRemove Operation = "remove"
)

// Planned is one operation of a plan.
type Planned struct {
	Operation Operation `json:"operation"`
	Before    *Rule     `json:"before,omitempty"` // nil: there is none
	After     *Rule     `json:"after,omitempty"`  // nil: it is deleted
	From      string    `json:"from,omitempty"`   // file:line of After
}

// PlannedRules is one operation of a plan on the rules for a service's connections.
type PlannedRules struct {
	Operation Operation `json:"operation"`
	Service   Name      `json:"service"`
	Before    *Rules    `json:"before,omitempty"`   // nil: there are none
	After     *Rules    `json:"after,omitempty"`    // nil: they are deleted
	Conflict  bool      `json:"conflict,omitempty"` // several operators had signed Before at once
	From      string    `json:"from,omitempty"`     // file:line of After
}

// ApplyResult is the plan, and what came of it.
type ApplyResult struct {
	Applied      bool           `json:"applied"`             // false: dry run, or nothing to change
	Plan         []Planned      `json:"plan"`                // in order of precedence, removals last
	Resolvers    []PlannedRules `json:"resolvers,omitempty"` // by service
	Unchanged    int            `json:"unchanged"`
	LiveAffected int            `json:"live_affected"` // live connections of the node that are cut (after a dry run: would be)
	Warnings     []string       `json:"warnings,omitempty"`
	Reach
}

// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"time"
)

// Change is an operation on an intention.
type Change string

// The changes.
const (
	ChangeAllow  Change = "allow"
	ChangeDeny   Change = "deny"
	ChangeDelete Change = "delete"
)

// IntentionChange changes the policy. With Wait the answer comes when the change
// is in force on every member, with Live on every member that answers, or after Timeout.
type IntentionChange struct {
	Source      Name          `json:"source"` // or "*"
	Destination Name          `json:"destination"`
	Action      Change        `json:"action"`
	Description string        `json:"description,omitempty"` // at most 512 bytes
	Wait        bool          `json:"wait,omitempty"`
	Live        bool          `json:"live,omitempty"`
	Timeout     time.Duration `json:"timeout_ns,omitempty"` // of Wait; 0: DefaultWait, at most MaxWait
	DryRun      bool          `json:"dry_run,omitempty"`
}

// How long Wait waits.
const (
	DefaultWait = 30 * time.Second
	MaxWait     = 10 * time.Minute
)

// ChangeResult says what a change did, or would do in a dry run.
type ChangeResult struct {
	Applied      bool     `json:"applied"`            // false: dry run, or nothing to change
	Before       Verdict  `json:"before"`             // for the pair, in which "*" stands for itself
	After        Verdict  `json:"after"`              //
	LiveAffected int      `json:"live_affected"`      // live connections that are cut (after a dry run: would be)
	Warnings     []string `json:"warnings,omitempty"` // e.g. a name that no service has
	Reach
}

// Reach says where a change is in force.
type Reach struct {
	InForce int `json:"in_force"` // nodes which have signed that their kernel maps hold the change
	Counted
}

// Counted says which nodes count, and what is missing.
type Counted struct {
	Nodes     int           `json:"nodes"`          // members; with Live, those that answer
	Live      bool          `json:"live,omitempty"` // members that don't answer aren't counted
	Elapsed   time.Duration `json:"elapsed_ns"`     // of waiting
	Waiting   []string      `json:"waiting,omitempty"`
	Unreached []Unreached   `json:"unreached,omitempty"`
}

// Unreached is a member that doesn't answer.
type Unreached struct {
	Name    Name      `json:"name"`
	Since   time.Time `json:"since"`
	InForce bool      `json:"in_force,omitempty"` // it has signed before that its kernel maps hold the change
}

// Rule is one intention in force.
type Rule struct {
	Source      Name      `json:"source"`
	Destination Name      `json:"destination"`
	Action      Action    `json:"action"`
	Precedence  int       `json:"precedence"` // 9, 8, 6 or 5; the highest decides
	Description string    `json:"description,omitempty"`
	Conflict    bool      `json:"conflict,omitempty"` // signed differently by several operators at once; deny won
	By          string    `json:"by,omitempty"`       // who signed it; Explain says it
	Since       time.Time `json:"since,omitzero"`     // when this node learned it
}

// IntentionList is the whole policy.
type IntentionList struct {
	Default Action `json:"default"` // where no rule matches
	Rules   []Rule `json:"rules"`   // in order of precedence
}

// Verdict is the decision for one pair, with its one reason.
type Verdict struct {
	Allowed bool   `json:"allowed"`
	Reason  Reason `json:"reason"`
	Rule    *Rule  `json:"rule,omitempty"` // nil: the default decided
}

// Explanation is everything that decides about one pair.
type Explanation struct {
	Source      Name         `json:"source"`
	Destination Name         `json:"destination"`
	Verdict     Verdict      `json:"verdict"`
	Why         string       `json:"why,omitempty"` // the reason as one sentence
	Default     Action       `json:"default"`
	Winner      *Rule        `json:"winner,omitempty"`
	Losers      []Rule       `json:"losers,omitempty"` // matching rules that don't decide, in order
	Digest      string       `json:"digest"`           // of the policy that should be in force
	Nodes       []NodePolicy `json:"nodes"`
	Live        []Flow       `json:"live,omitempty"`    // live connections on this node that the verdict governs
	Unknown     []Name       `json:"unknown,omitempty"` // the services of the pair that have no instance
}

// NodePolicy is what one node's kernel maps hold.
type NodePolicy struct {
	Name    Name      `json:"name"`
	Digest  string    `json:"digest"`   // as it has signed; "": it has no policy in force, or has said nothing
	InForce bool      `json:"in_force"` // Digest equals Explanation.Digest
	Alive   bool      `json:"alive"`
	Since   time.Time `json:"since,omitzero"` // when it ceased to answer
}

// Flow is one live connection seen from this node.
type Flow struct {
	Source      Name           `json:"source"`
	Destination Name           `json:"destination"`
	For         Name           `json:"for,omitempty"`  // the service that was called, where Destination stands in for it
	Node        Name           `json:"node,omitempty"` // the other node; "": both ends are here
	Direction   string         `json:"direction"`      // out, in or local
	Client      netip.AddrPort `json:"client,omitzero"`
	Port        uint16         `json:"port"`
	Start       time.Time      `json:"start"`
	Sent        uint64         `json:"sent"` // bytes, source to destination
	Received    uint64         `json:"received"`
}

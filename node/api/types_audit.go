// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"time"
)

// Audit is the log of changes to policy, grants and keys that this node keeps.
type Audit interface {
	// Changes lists the entries with a number above after, oldest first.
	Changes(ctx context.Context, after uint64) (*AuditList, error)
}

// AuditList is the latest changes, oldest first.
type AuditList struct {
	Changes []AuditEntry `json:"changes"`
}

// AuditEntry is one change of what is in force.
type AuditEntry struct {
	Seq     uint64    `json:"seq"`              // grows by one with each entry of this node
	Time    time.Time `json:"time"`             // when this node learned it
	By      string    `json:"by"`               // who signed it: root, operator NODE, authority NODE
	Kind    string    `json:"kind"`             // intention, grant, resolver, member, authority, operator, revocation, root
	Subject string    `json:"subject"`          // what changed, for example web>db
	Before  string    `json:"before,omitempty"` // "": nothing
	After   string    `json:"after,omitempty"`
	Why     string    `json:"why,omitempty"` // of changes that follow from another one
}

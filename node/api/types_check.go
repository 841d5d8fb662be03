// SPDX-License-Identifier: Apache-2.0

package api

import "time"

// Statuses of a health check.
const (
	CheckPassing  = "passing"
	CheckWarning  = "warning"
	CheckCritical = "critical"
)

// HealthCheck is a health check of an instance, with its last result.
type HealthCheck struct {
	ID     string    `json:"id"`
	Name   string    `json:"name"`
	Kind   string    `json:"kind"` // tcp, http, grpc, script, ttl or alias
	Status string    `json:"status"`
	Output string    `json:"output,omitempty"` // of the last run, at most 4 KiB; its last line says the most
	Since  time.Time `json:"since"`            // when the status became what it is
	Ran    time.Time `json:"ran,omitzero"`     // end of the last run
	Source string    `json:"source"`           // file:line
}

// CheckReport tells the status of a ttl check.
type CheckReport struct {
	ID     string `json:"id"` // of the check, or INSTANCE/ID
	Status string `json:"status"`
	Note   string `json:"note,omitempty"`
}

// CheckReported is what was taken over.
type CheckReported struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

const maxCheckID = 300 // bytes of an instance's id and of a check's

func (r *CheckReport) check() error {
	switch r.Status {
	case CheckPassing, CheckWarning, CheckCritical:
	default:
		return Failed("", "status %.40q: must be passing, warning or critical", r.Status)
	}
	if r.ID == "" || len(r.ID) > maxCheckID {
		return Failed("", "id: must be 1 to %d bytes", maxCheckID)
	}
	return first(text("id", r.ID), text("note", r.Note))
}

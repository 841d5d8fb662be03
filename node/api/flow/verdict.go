// SPDX-License-Identifier: Apache-2.0

package flow

import "tacit/policy"

// Verdicts. NoVerdict is that of packets that belong to no connection.
const (
	Allowed   = "allowed"
	Refused   = "refused"
	NoVerdict = "none"
)

// VerdictOf is what was decided about the connections of one direction that ended for one
// reason; "" is the reason of live ones. What was allowed and then cut by a change of
// policy is Allowed; what was cut for a reason of refusals, as revoked, is Refused.
func VerdictOf(direction string, reason Reason) string {
	switch {
	case reason == policy.ReasonLate:
		return NoVerdict
	case reason == "" || direction == Direct: // a program that didn't accept refused it, not the mesh
		return Allowed
	case reason.Refuses():
		return Refused
	}
	return Allowed
}

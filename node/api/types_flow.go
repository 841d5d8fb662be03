// SPDX-License-Identifier: Apache-2.0

package api

import "tacit/node/api/flow"

// The types of package flow, for those who ask the daemon for nothing else of it.
type (
	FlowRecord = flow.Record
	FlowList   = flow.List
	FlowTotals = flow.Sums
	FlowTotal  = flow.Total
	FlowQuery  = flow.Query
)

// Directions besides those of the proxy.
const (
	DirectionDirect = flow.Direct
	DirectionHook   = flow.Hook
)

// SPDX-License-Identifier: Apache-2.0

package records

import (
	"errors"
	"fmt"
	"strings"

	"tacit/identity"
	"tacit/node/health"
	"tacit/policy/ledger"
)

// noteQuotas says which nodes' records are refused because there are too many.
func (r *Records) noteQuotas(recs []ledger.Record, rejected []ledger.Rejection) {
	over := map[identity.Name]error{}
	for _, rec := range recs {
		if node := nodeOf(rec); node != "" && !r.View().Full(node) {
			over[node] = nil
		}
	}
	for _, bad := range rejected {
		if errors.Is(bad.Err, ledger.ErrLimit) {
			over[nodeOf(bad.Record)] = bad.Err
		}
	}
	for node, err := range over {
		if r.conf.Health.Set(health.Quota, string(node), err) && err != nil {
			r.conf.Log.Warn("a node's records are refused", "node", node, "err", err)
		}
	}
}

// nodeOf returns the node that signs its own state by a record, or "".
func nodeOf(rec ledger.Record) identity.Name {
	if rec.Kind != ledger.KindNode && rec.Kind != ledger.KindInstance {
		return ""
	}
	node, _, _ := strings.Cut(rec.Key, "/")
	return identity.Name(node)
}

// noteReturned says once that this disk lacked what its own keys have signed, and has
// this node look at its own record again. The grants of tokens come from elsewhere
// anyway.
func (r *Records) noteReturned(changed []ledger.Record) {
	count := 0
	for _, rec := range changed {
		if r.conf.Own != nil && r.conf.Own(rec.Dot.Signer) && rec.Kind != ledger.KindGrant {
			count++
		}
	}
	if count == 0 {
		return
	}
	r.wakeOwn()
	const what = "records of this node's own keys came back from other nodes: was its disk rolled back?"
	r.conf.Health.Repaired("state", fmt.Sprintf("%d %s", count, what))
	if r.returned.CompareAndSwap(false, true) {
		r.conf.Log.Warn(what, "count", count)
	}
}

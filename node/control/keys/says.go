// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// label names a record on a command line: its kind and its key.
func label(r ledger.Record) string {
	key := r.Key
	var id identity.KeyID
	if id.UnmarshalText([]byte(key)) == nil { // of an operator, or of a revocation
		key = id.Short()
	}
	return string(r.Kind) + "/" + key
}

func allows(r ledger.Record) bool { return body[policy.Intention](r).Action == policy.Allow }

// body is what a record says; the ledger has checked its form.
func body[T any](r ledger.Record) (v T) {
	_ = json.Unmarshal(r.Body, &v)
	return v
}

// says is what a record says, for a person who decides whether it shall stay.
func says(r ledger.Record) string {
	if r.Delete {
		return "it was deleted"
	}
	_, node, _ := bound(r)
	switch r.Kind {
	case ledger.KindOperator:
		return fmt.Sprintf("%s holds an operator key", node)
	case ledger.KindAuthority:
		return fmt.Sprintf("%s is an authority", node)
	case ledger.KindMember:
		return fmt.Sprintf("%s is a member", node)
	case ledger.KindIntention:
		i := body[policy.Intention](r)
		return fmt.Sprintf("%s %s -> %s", i.Action, i.Source, i.Destination)
	case ledger.KindGrant:
		g := body[statement.Grant](r)
		return strings.TrimSpace(fmt.Sprintf("%s may run %s %s", g.Node, g.Service, strings.Join(g.Outside, " ")))
	case ledger.KindRevocation:
		v := body[statement.Revocation](r)
		return strings.TrimSpace(fmt.Sprintf("a key of %s is revoked: %s", cmp.Or(v.Node, "nobody known"), v.Reason))
	}
	return fmt.Sprintf("%.200s", r.Body)
}

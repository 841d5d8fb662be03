// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

func compareCells(a, b cell) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.key, b.key))
}

// value says in words what is in force for a cell, "" for nothing, and who signed it.
// Several records that contradict each other are all named.
func value(v *ledger.View, c cell) (value, by string) {
	var says, who []string
	for _, r := range v.Heads(c.kind, c.key) {
		if text := say(r); text != "" {
			says = append(says, text)
		}
		who = append(who, signer(v, r.Dot.Signer))
	}
	return join(says), join(who)
}

func join(words []string) string {
	slices.Sort(words)
	return strings.Join(slices.Compact(words), " and ")
}

// say is a record's statement in a few words, "" for a delete. A body was parsed when
// the record was merged.
func say(r ledger.Record) string {
	switch {
	case r.Delete:
		return ""
	case r.Kind == ledger.KindIntention:
		return read(r, func(i policy.Intention) string { return described(fmt.Sprint(i.Action), i.Description) })
	case r.Kind == ledger.KindGrant:
		return read(r, func(g statement.Grant) string { return described("granted", strings.Join(g.Outside, " ")) })
	case r.Kind == ledger.KindRevocation:
		return read(r, func(x statement.Revocation) string {
			return described(strings.TrimSpace("revoked "+string(x.Node)), x.Reason)
		})
	case r.Kind == ledger.KindOperator:
		return read(r, func(o statement.Operator) string { return "operator on " + string(o.Node) })
	case r.Kind == ledger.KindMember:
		return read(r, func(m statement.Member) string { return "key " + keyOf(m.Public) })
	case r.Kind == ledger.KindAuthority:
		return read(r, func(a statement.Authority) string { return "authority with key " + certificateKey(a.Certificate) })
	case r.Kind == ledger.KindRoot:
		return read(r, func(a statement.Root) string { return "root with key " + certificateKey(a.Certificate) })
	}
	return string(r.Body)
}

func read[T any](r ledger.Record, say func(T) string) string {
	var body T
	if err := json.Unmarshal(r.Body, &body); err != nil {
		return string(r.Body)
	}
	return say(body)
}

func described(what, why string) string {
	if why == "" {
		return what
	}
	return fmt.Sprintf("%s (%s)", what, why)
}

func keyOf(spki []byte) string {
	id, err := identity.KeyIDOf(spki)
	if err != nil {
		return "unreadable"
	}
	return id.Short()
}

func certificateKey(der []byte) string {
	id, err := statement.CertificateKey(der)
	if err != nil {
		return "unreadable"
	}
	return id.Short()
}

// signer names the holder of a key: the root, an operator's node or an authority, also
// if the key is revoked.
func signer(v *ledger.View, id identity.KeyID) string {
	for _, r := range v.Heads(ledger.KindOperator, id.String()) {
		return read(r, func(o statement.Operator) string { return "operator " + string(o.Node) })
	}
	for _, node := range v.Keys(ledger.KindAuthority) {
		for _, r := range v.Heads(ledger.KindAuthority, node) {
			if key := read(r, func(a statement.Authority) string { return certificateKey(a.Certificate) }); key == id.Short() {
				return "authority " + node
			}
		}
	}
	for _, domain := range v.Keys(ledger.KindRoot) {
		for _, r := range v.Heads(ledger.KindRoot, domain) {
			if r.Dot.Signer == id {
				return "root"
			}
		}
	}
	return "key " + id.Short()
}

// short shortens a record's key where it is a KeyID.
func short(key string) string {
	var id identity.KeyID
	if id.UnmarshalText([]byte(key)) == nil {
		return id.Short()
	}
	return key
}

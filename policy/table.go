// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"slices"
	"sync"

	"tacit/identity"
)

type pair struct{ source, destination identity.Name }

// Table decides which service may call which. It is immutable: a change of policy
// makes another table, so readers need no lock.
type Table struct {
	def    Action
	rules  map[pair]Intention
	digest func() string // computed once
}

// NewTable builds a table. Of two rules for one pair, deny wins; of two with the
// same action, the one whose description sorts first. An action other than Allow,
// in a rule or as the default, counts as Deny.
func NewTable(def Action, rules []Intention) *Table {
	t := &Table{def: closed(def), rules: make(map[pair]Intention, len(rules))}
	for _, r := range rules {
		r.Action = closed(r.Action)
		p := pair{r.Source, r.Destination}
		if old, ok := t.rules[p]; !ok || wins(r, old) {
			t.rules[p] = r
		}
	}
	t.digest = sync.OnceValue(t.sum)
	return t
}

func closed(a Action) Action {
	if a == Allow {
		return Allow
	}
	return Deny
}

func wins(r, old Intention) bool {
	if r.Action != old.Action {
		return r.Action == Deny
	}
	return r.Description < old.Description
}

// candidates returns the pairs whose rules match, the most specific first.
func candidates(src, dst identity.Name) [4]pair {
	return [4]pair{{src, dst}, {Any, dst}, {src, Any}, {Any, Any}}
}

// rule returns the rule for one of the candidates of src. An ingress lets in
// whoever reaches it, so that "*" may deny it, but not allow it.
func (t *Table) rule(p pair, src identity.Name) (Intention, bool) {
	r, ok := t.rules[p]
	if ok && r.Action == Allow && r.Source == Any && src.IsIngress() {
		return Intention{}, false
	}
	return r, ok
}

// Decide returns the verdict for one connection, with at most four lookups. An
// ingress is allowed only by a rule that names it: neither "*" nor the default
// allows it. An empty source is refused with ReasonIdentity, an empty destination
// with ReasonDestination. "*" counts as empty, since no service has this name.
func (t *Table) Decide(src, dst identity.Name) Decision {
	if src == "" || src == Any {
		return Decision{Reason: ReasonIdentity}
	}
	if dst == "" || dst == Any {
		return Decision{Reason: ReasonDestination}
	}
	for _, p := range candidates(src, dst) {
		if r, ok := t.rule(p, src); ok {
			return decided(r)
		}
	}
	if t.DefaultFor(src) == Allow {
		return Decision{Allowed: true, Reason: ReasonAllowed}
	}
	return Decision{Reason: ReasonDefault}
}

func decided(r Intention) Decision {
	if r.Action == Allow {
		return Decision{Allowed: true, Reason: ReasonAllowed, Rule: &r}
	}
	return Decision{Reason: ReasonIntention, Rule: &r}
}

// Explain returns every rule that matches the pair, in order of precedence: the
// first one decides.
func (t *Table) Explain(src, dst identity.Name) []Intention {
	var found []Intention
	if src == "" || src == Any || dst == "" || dst == Any {
		return nil
	}
	for _, p := range candidates(src, dst) {
		if r, ok := t.rule(p, src); ok {
			found = append(found, r)
		}
	}
	return found
}

// List returns the rules in order of precedence, then of source, then of
// destination.
func (t *Table) List() []Intention {
	all := make([]Intention, 0, len(t.rules))
	for _, r := range t.rules {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Intention) int {
		return cmp.Or(
			cmp.Compare(b.Precedence(), a.Precedence()),
			cmp.Compare(a.Source, b.Source),
			cmp.Compare(a.Destination, b.Destination))
	})
	return all
}

// Default returns the verdict on a pair that no rule matches.
func (t *Table) Default() Action { return t.def }

// DefaultFor returns the verdict on a source that no rule matches.
func (t *Table) DefaultFor(src identity.Name) Action {
	if src.IsIngress() {
		return Deny
	}
	return t.def
}

// Digest returns 16 hex digits over the default and the rules. Equal policies have
// equal digests, whatever the order of the rules. Descriptions don't count, since
// the kernel doesn't hold them. The first call takes the time, later ones none.
func (t *Table) Digest() string { return t.digest() }

func (t *Table) sum() string {
	var s Sum
	for _, r := range t.rules {
		s.Add(r)
	}
	return s.Digest(t.def)
}

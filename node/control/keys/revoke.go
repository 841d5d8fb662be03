// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"
	"strings"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/records"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// Revoke revokes keys by public key and for good. First it signs again what rests on
// them alone; the other nodes take both together.
func (k keys) Revoke(ctx context.Context, r api.Revocation) (*api.RevocationResult, error) {
	subject, err := k.subject(r)
	if err != nil {
		return nil, err
	}
	root, err := k.root(r.RootKey)
	if err != nil {
		return nil, err
	}
	signer, err := k.signer(r.RootKey, "revoking")
	if err != nil {
		return nil, err
	}
	p := &plan{keys: k, without: r.Without, node: subject.node, revoked: subject.keys, root: root}
	if err := p.draw(); err != nil {
		return nil, err
	}
	out := &api.RevocationResult{Done: !r.DryRun, Revoked: p.revoked, By: who(k.view(), signer.ID()), Again: p.again, Lost: p.lost, Withdrawn: p.withdrawn, Node: subject.node}
	if r.DryRun {
		return out, nil
	}
	for i, key := range p.revoked {
		body := statement.Revocation{Public: id(key), Node: key.Node, Reason: r.Reason}
		p.sign(signer, records.Change{Kind: ledger.KindRevocation, Key: key.ID, Body: body})
		p.revoked[i].State, p.revoked[i].Reason = api.KeyRevoked, r.Reason
	}
	if err := k.sign(ctx, p.changes); err != nil {
		return nil, err
	}
	if subject.node != "" {
		k.Cut(subject.node)
	}
	k.Settle()
	return out, nil
}

// id is a key's ID, which was made from one.
func id(key api.Key) (out identity.KeyID) {
	_ = out.UnmarshalText([]byte(key.ID))
	return out
}

// subject is what a request is about.
type subject struct {
	node identity.Name // "": keys alone
	keys []api.Key
}

func (k keys) subject(r api.Revocation) (subject, error) {
	var out subject
	var err error
	switch {
	case r.Scope == api.ScopeNode:
		out, err = k.whole(identity.Name(r.Subject))
	case r.Scope == api.ScopeOperator:
		out.keys, err = k.operatorKeys(r.Subject)
	default:
		var one api.Key
		one, err = k.find(r.Subject, "")
		out.keys = []api.Key{one}
	}
	if err != nil {
		return out, err
	}
	for _, key := range out.keys {
		switch {
		case key.Kind == api.KeyRoot:
			return out, api.Refused("whoever has the root has the mesh: create a new one", "the root key can't be revoked")
		case key.State == api.KeyRevoked && len(out.keys) == 1:
			return out, api.Refused("tacit key list shows what is in force", "the key %s is revoked already", key.Short())
		case key.Node == k.Settings.Name && key.Kind == api.KeyNode:
			return out, api.Refused("revoke it from another operator's node", "%s can't revoke itself", key.Node)
		}
	}
	return out, nil
}

// whole is a node with all of its keys: those of records, and those of services that
// it has proven to this node.
func (k keys) whole(node identity.Name) (subject, error) {
	if _, ok := k.view().Member(node); !ok {
		return subject{}, noNode(node)
	}
	all := append(k.held(node), k.services()...)
	all = slices.DeleteFunc(all, func(o api.Key) bool { return o.Node != node || o.State == api.KeyRevoked })
	return subject{node, all}, nil
}

// operatorKeys are those of a node, or the one whose ID begins so.
func (k keys) operatorKeys(name string) ([]api.Key, error) {
	all := slices.DeleteFunc(k.held(identity.Name(name)), func(o api.Key) bool { return o.Kind != api.KeyOperator || o.State == api.KeyRevoked })
	if len(all) > 0 {
		return all, nil
	}
	one, err := k.find(name, api.KeyOperator)
	if err != nil {
		return nil, api.Failed("tacit operator list shows them", "%s is neither a node with an operator key nor the beginning of such a key's ID", name)
	}
	return []api.Key{one}, nil
}

// plan is what a revocation changes.
type plan struct {
	keys
	without []string
	node    identity.Name // that is revoked as a whole, or ""
	root    *identity.Key // at hand, or nil

	revoked   []api.Key
	again     []api.Rested
	lost      []api.Rested
	withdrawn []string
	changes   []records.Signed
}

func (p *plan) sign(key *identity.Key, c records.Change) {
	p.changes = append(p.changes, records.Signed{Key: key, Change: c})
}

// draw finds what rests on the revoked keys alone.
func (p *plan) draw() error {
	p.follow()
	if err := p.leavesOperator(); err != nil {
		return err
	}
	for _, key := range p.revoked {
		for _, r := range p.view().SignedBy(id(key)) {
			if err := p.rests(r); err != nil {
				return err
			}
		}
	}
	return p.withdraw()
}

// follow has the keys revoked as well that only revoked ones have vouched for, and
// that nobody is to vouch for again.
func (p *plan) follow() {
	for i := 0; i < len(p.revoked); i++ {
		for _, r := range p.view().SignedBy(id(p.revoked[i])) {
			key, node, binds := bound(r)
			if binds && r.Kind != ledger.KindMember && p.unwanted(r) && !p.isRevoked(key) && !p.outlived(r) {
				p.revoked = append(p.revoked, api.Key{ID: key.String(), Kind: kinds(r.Kind), Node: node, State: api.KeyInForce})
			}
		}
	}
}

// leavesOperator refuses to revoke the last operator: nobody could change policy any
// more, and what it signed would be void. With the root key another is made first.
func (p *plan) leavesOperator() error {
	ends := false
	for _, o := range p.view().Operators() {
		key := sha256.Sum256(o.Public)
		switch {
		case p.isRevoked(key):
			ends = true
		case p.root != nil, p.view().StaysOperator(key, p.ids()):
			return nil
		}
	}
	if !ends {
		return nil
	}
	return api.Refused("first make another: tacit operator request on a member's node, and tacit operator add, with --root-key FILE where no other operator is left",
		"no operator would be left")
}

// withdraw deletes the grants of a node that is revoked as a whole.
func (p *plan) withdraw() error {
	for _, service := range p.view().Grants(p.node) {
		key := string(p.node) + "/" + string(service)
		if p.node != "" {
			p.withdrawn = append(p.withdrawn, key)
			if err := p.signAgain(ledger.Record{Kind: ledger.KindGrant, Key: key, Delete: true}); err != nil {
				return err
			}
		}
	}
	return nil
}

// rests decides about one record that a revoked key signed.
func (p *plan) rests(r ledger.Record) error {
	key, node, binds := bound(r)
	switch {
	case r.Kind == ledger.KindNode, r.Kind == ledger.KindInstance, binds && p.isRevoked(key):
		return nil // it goes with its signer
	case p.node != "" && (node == p.node || r.Kind == ledger.KindGrant && strings.HasPrefix(r.Key, string(p.node)+"/")):
		return nil
	case r.Kind == ledger.KindRevocation && p.root == nil:
		return nil // it still counts
	case p.outlived(r):
		return nil
	}
	one := api.Rested{Label: label(r), Says: says(r)}
	if p.unwanted(r) {
		p.lost = append(p.lost, one)
		return nil
	}
	p.again = append(p.again, one)
	return p.signAgain(r)
}

func (p *plan) unwanted(r ledger.Record) bool {
	return slices.Contains(p.without, label(r)) || slices.Contains(p.without, string(r.Kind))
}

func (p *plan) isRevoked(key identity.KeyID) bool {
	return slices.ContainsFunc(p.revoked, func(o api.Key) bool { return o.ID == key.String() })
}

func (p *plan) ids() []identity.KeyID {
	out := make([]identity.KeyID, len(p.revoked))
	for i, key := range p.revoked {
		out[i] = id(key)
	}
	return out
}

// outlived reports whether another record of the same cell, which stays, says as much:
// signing this one again would settle the conflict for the weaker one. Of two that go,
// the first is signed again.
func (p *plan) outlived(r ledger.Record) bool {
	for _, other := range p.view().Heads(r.Kind, r.Key) {
		switch rank := cmp.Compare(strength(other), strength(r)); {
		case other.Dot == r.Dot:
		case rank < 0, rank == 0 && (!p.isRevoked(other.Dot.Signer) || p.planned(r)):
			return true
		}
	}
	return false
}

func (p *plan) planned(r ledger.Record) bool {
	return slices.ContainsFunc(p.changes, func(c records.Signed) bool { return c.Kind == r.Kind && c.Change.Key == r.Key })
}

// strength orders the heads of a cell as the ledger decides between them: deny, then
// delete, then the rest.
func strength(r ledger.Record) int {
	switch {
	case r.Kind == ledger.KindIntention && !r.Delete && !allows(r):
		return 0
	case r.Delete:
		return 1
	}
	return 2
}

// signAgain signs a record with a key that stays: an authority's for members, the
// root's, where it is at hand, for operators and authorities, else an operator's.
func (p *plan) signAgain(r ledger.Record) error {
	key, err := p.another(r)
	if err != nil {
		return err
	}
	p.sign(key, records.Change{Kind: r.Kind, Key: r.Key, Body: r.Body, Delete: r.Delete})
	return nil
}

func (p *plan) another(r ledger.Record) (*identity.Key, error) {
	here := string(p.Settings.Name)
	switch r.Kind {
	case ledger.KindMember:
		if a := p.Member.Authority; a != nil && p.view().IsAuthority(a.Key().ID()) && !p.isRevoked(a.Key().ID()) {
			return a.Key(), nil
		}
		return nil, api.Refused("run it on another authority's node; tacit nodes shows them", "%s rests on a revoked authority alone, and %s is no other authority", label(r), here)
	case ledger.KindOperator, ledger.KindAuthority:
		if p.root != nil {
			return p.root, nil
		}
	}
	operator := p.Member.Operator.Key()
	if operator == nil || p.isRevoked(operator.ID()) {
		return nil, api.Refused("first make this node an operator's: tacit operator request", "%s rests on a revoked key alone, and %s has no other operator key to sign it again", label(r), here)
	}
	if p.root == nil && !p.view().StaysOperator(operator.ID(), p.ids()) {
		return nil, api.Refused("give the root key, which signs for it again: --root-key FILE", "the operator key of %s rests on the revoked key itself", here)
	}
	return operator, nil
}

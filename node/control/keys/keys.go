// SPDX-License-Identifier: Apache-2.0

// Package keys answers the CLI about the keys of the mesh: which there are, how a node
// becomes an operator's, what revoking one voids, and where the root key is. It must
// not decide what a key may sign: the ledger does. A private key that a request brings
// is used once, and never kept.
package keys

import (
	"bytes"
	"context"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/config"
	"tacit/node/membership"
	"tacit/node/records"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
	"tacit/tproxy/lane"
)

// Records are the signed state.
type Records interface {
	View() *ledger.View
	// SignEach makes all the records or none.
	SignEach([]records.Signed) error
	// Await waits, for a few seconds after the start, until operators may sign.
	Await(ctx context.Context) error
}

// Config is what the answers are made from.
type Config struct {
	Settings *config.Settled
	Member   *membership.Member
	Records  Records
	Served   func() []membership.Served // the certificates in use here
	Lanes    func() []lane.Info
	Cut      func(identity.Name) // ends every lane with a node
	Settle   func()              // brings changes in force here
}

// keys answers `tacit key`, `tacit operator`, `tacit ca` and `tacit node revoke`.
type keys struct{ Config }

// New returns the daemon's side of these commands.
func New(c Config) api.Keys { return keys{c} }

func (k keys) view() *ledger.View { return k.Records.View() }

// root is the root key that the request brings, or else the one on this node, or nil.
func (k keys) root(given string) (*identity.Key, error) {
	if given == "" {
		return k.ownRoot(), nil
	}
	root, err := identity.ParseKey([]byte(given))
	if err != nil {
		return nil, api.Failed("give the file that tacit ca export-root wrote", "--root-key: %v", err)
	}
	if root.ID() != k.Member.Bundle.Fingerprint() {
		return nil, api.Refused("tacit key list shows this mesh's root", "--root-key: %s is not the root key of this mesh", root.ID().Short())
	}
	return root, nil
}

// ownRoot is the root key on this node, or nil.
func (k keys) ownRoot() *identity.Key {
	if a := k.Member.Authority; a != nil && a.RootKey() != nil && a.RootKey().ID() == k.Member.Bundle.Fingerprint() {
		return a.RootKey()
	}
	return nil
}

// sign makes the records once this node has heard from a member.
func (k keys) sign(ctx context.Context, changes []records.Signed) error {
	if err := k.Records.Await(ctx); err != nil {
		return api.Refused("tacit nodes shows which nodes answer", "%s", err)
	}
	return k.Records.SignEach(changes)
}

// signer is the root key, or else this node's operator key.
func (k keys) signer(given, what string) (*identity.Key, error) {
	root, err := k.root(given)
	if root != nil || err != nil {
		return root, err
	}
	if operator := k.Member.Operator.Key(); operator != nil {
		return operator, nil
	}
	e := &api.Error{Code: api.CodeRefused, Message: what + " needs an operator key, and this node (" + string(k.Settings.Name) + ") holds none in force",
		Hint: "run the same command on a node that does, or give the root key: --root-key FILE"}
	for _, o := range k.view().Operators() {
		e.Nodes = append(e.Nodes, string(o.Node))
	}
	return nil, e
}

// Offer makes this node's operator key, and the line by which an operator adds it.
func (k keys) Offer(context.Context, api.OfferRequest) (*api.Offer, error) {
	line, key, err := k.Member.OfferOperator(k.Settings, k.view().Revoked)
	if err != nil {
		return nil, err
	}
	return &api.Offer{Key: k.operator(key.ID(), k.Settings.Name), Line: line}, nil
}

// AddOperator makes the key that a node has offered an operator's.
func (k keys) AddOperator(ctx context.Context, r api.OperatorAddition) (*api.Key, error) {
	if _, ok := k.view().Member(r.Node); !ok {
		return nil, noNode(r.Node)
	}
	offer, id, err := membership.ParseOffer(r.Line, r.Node, k.Member.Bundle.TrustDomain(), k.view())
	switch {
	case err != nil:
		return nil, api.Failed("on "+string(r.Node)+": tacit operator request", "%v", err)
	case k.view().Revoked(id):
		return nil, api.Refused("on "+string(r.Node)+": tacit operator request makes another", "the key %s is revoked", id.Short())
	}
	signer, err := k.signer(r.RootKey, "adding an operator")
	if err != nil {
		return nil, err
	}
	body := statement.Operator{Node: r.Node, Public: offer.Public}
	err = k.sign(ctx, []records.Signed{{Key: signer, Change: records.Change{Kind: ledger.KindOperator, Key: id.String(), Body: body}}})
	if err != nil {
		return nil, err
	}
	k.Settle()
	out := k.operator(id, r.Node)
	return &out, nil
}

func noNode(name identity.Name) error {
	return api.Failed("tacit nodes lists the members", "no node is called %s", name)
}

// ExportRoot returns the root key, which stays here until DropRoot.
func (k keys) ExportRoot(context.Context, api.RootExport) (*api.RootKey, error) {
	root, err := k.rootHere()
	if err != nil {
		return nil, err
	}
	text, err := root.PEM()
	return &api.RootKey{ID: root.ID().String(), PEM: string(text)}, err
}

// DropRoot removes the root key from this node, of which a copy is elsewhere.
func (k keys) DropRoot(_ context.Context, r api.RootCopy) (*api.RootDropped, error) {
	root, err := k.rootHere()
	if err != nil {
		return nil, err
	}
	if copied, err := identity.ParseKey([]byte(r.PEM)); err != nil || !bytes.Equal(copied.Public(), root.Public()) {
		return nil, api.Failed("export it again: tacit ca export-root FILE", "the copy is not this mesh's root key; nothing was removed")
	}
	if err := k.Member.DropRootKey(k.Settings); err != nil {
		return nil, err
	}
	return &api.RootDropped{ID: root.ID().String()}, nil
}

func (k keys) rootHere() (*identity.Key, error) {
	if root := k.ownRoot(); root != nil {
		return root, nil
	}
	return nil, api.Refused("it is where it was exported to, or on the node that was started with --bootstrap", "the root key is not on this node (%s)", k.Settings.Name)
}

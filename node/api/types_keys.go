// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strings"
	"time"
)

// KeyKind is what a key of the mesh is for.
type KeyKind string

// The kinds of keys.
const (
	KeyRoot      KeyKind = "root"
	KeyOperator  KeyKind = "operator"
	KeyAuthority KeyKind = "authority" // an intermediate's
	KeyNode      KeyKind = "node"
	KeyService   KeyKind = "service" // of a certificate that proves a service on lanes
	KeyUnknown   KeyKind = "unknown" // revoked, and known by that alone
)

// KeyState says whether the mesh takes what a key signs.
type KeyState string

// The states of keys.
const (
	KeyInForce KeyState = "in force"
	KeyRevoked KeyState = "revoked"
	KeyVoid    KeyState = "void" // whoever vouched for it is revoked
)

// Key is a public key of the mesh as the answering node knows it. Of services' keys a
// node knows its own, and those that others have proven to it on lanes that live.
type Key struct {
	ID       string    `json:"id"` // SHA-256 of the public key, 64 hex digits
	Kind     KeyKind   `json:"kind"`
	Node     Name      `json:"node,omitempty"`    // that holds it
	Service  Name      `json:"service,omitempty"` // or ingress
	State    KeyState  `json:"state"`
	SignedBy []string  `json:"signed_by,omitempty"` // "root", "operator host1", "authority host1"
	Ends     time.Time `json:"ends,omitzero"`       // when its certificate does
	Reason   string    `json:"reason,omitempty"`    // for the revocation
	Here     bool      `json:"here,omitempty"`      // the private key is on the answering node
}

// shortKey is the number of digits by which people name a key.
const shortKey = 12

// Short is the first digits of the ID.
func (k Key) Short() string { return k.ID[:min(shortKey, len(k.ID))] }

// OfferRequest has the node that answers make an operator key and offer it.
type OfferRequest struct{}

// Offer is an operator key that a node offers. Line is for AddOperator.
type Offer struct {
	Key  Key    `json:"key"`
	Line string `json:"line"`
}

// OperatorAddition makes a node an operator's.
type OperatorAddition struct {
	Node    Name   `json:"node"`
	Line    string `json:"line"`
	RootKey string `json:"root_key,omitempty"` // PEM; signs instead of the answering node's operator key, and isn't kept
}

// Scope is what a Revocation's subject names.
type Scope string

// The scopes.
const (
	ScopeNode     Scope = "node"     // a node: all of its keys, and its grants
	ScopeOperator Scope = "operator" // an operator's key, or the node that holds it
	ScopeKey      Scope = "key"      // any key but the root's
)

// Revocation revokes keys, which can't be undone. What rests on them alone, and isn't
// named in Without, is signed again with keys of the answering node.
type Revocation struct {
	Scope   Scope    `json:"scope"`
	Subject string   `json:"subject"` // a node, or a key's ID or its first 8 digits or more
	Reason  string   `json:"reason,omitempty"`
	Without []string `json:"without,omitempty"` // labels or kinds of records that are not signed again
	RootKey string   `json:"root_key,omitempty"`
	DryRun  bool     `json:"dry_run,omitempty"`
}

// RevocationResult says what was done, or with DryRun what would be.
type RevocationResult struct {
	Done      bool     `json:"done"`
	Revoked   []Key    `json:"revoked"`
	By        string   `json:"by"` // who signs the revocation: "root", "operator host1"
	Again     []Rested `json:"signed_again,omitempty"`
	Lost      []Rested `json:"lost,omitempty"`      // not signed again, because of Without
	Withdrawn []string `json:"withdrawn,omitempty"` // grants of the node
	Notes     []string `json:"notes,omitempty"`
	Node      Name     `json:"node,omitempty"` // with ScopeNode
}

// Rested is a record that rests on a revoked key alone.
type Rested struct {
	Label string `json:"label"` // "intention/web>db": its kind and key
	Says  string `json:"says"`
}

// RootExport asks for the root key.
type RootExport struct{}

// RootKey is the root's private key.
type RootKey struct {
	ID  string `json:"id"`
	PEM string `json:"pem"`
}

// RootCopy proves that a copy of the root key is whole: then the node's own is removed.
type RootCopy struct {
	PEM string `json:"pem"`
}

// RootDropped names the root key that is no longer on the node.
type RootDropped struct {
	ID string `json:"id"`
}

const maxPEM = 4 << 10

func pem(what, s string) error {
	if len(s) > maxPEM || s != "" && !strings.Contains(s, "PRIVATE KEY") {
		return Failed("give the file that tacit ca export-root wrote", "%s: not a private key in PEM", what)
	}
	return nil
}

func (*OfferRequest) check() error { return nil }

func (*RootExport) check() error { return nil }

func (r *RootCopy) check() error { return pem("the copy", r.PEM) }

func (r *OperatorAddition) check() error {
	if len(r.Line) > maxPEM {
		return Failed("", "the key's line has %d bytes, at most %d", len(r.Line), maxPEM)
	}
	return first(fold("node", &r.Node), pem("--root-key", r.RootKey))
}

func (r *Revocation) check() error {
	var err error
	switch name := Name(r.Subject); {
	case r.Scope == ScopeNode:
		err = fold("node", &name)
		r.Subject = string(name)
	case r.Scope == ScopeOperator && !isKey(r.Subject):
		err = fold("node", &name)
		r.Subject = string(name)
	case r.Scope != ScopeOperator && r.Scope != ScopeKey:
		err = Failed("", "scope %.40q: must be node, operator or key", string(r.Scope))
	case !isKey(r.Subject):
		err = Failed("tacit key list shows the keys", "key %.80q: give 8 to 64 hex digits", r.Subject)
	}
	for i := range r.Without {
		err = first(err, text("without", r.Without[i]))
	}
	r.Subject = strings.ToLower(r.Subject)
	return first(err, text("reason", r.Reason), pem("--root-key", r.RootKey))
}

// isKey reports whether a text is at least the beginning of a key's ID.
func isKey(s string) bool {
	return len(s) >= 8 && len(s) <= 64 && strings.Trim(strings.ToLower(s), "0123456789abcdef") == ""
}

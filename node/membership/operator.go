// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"tacit/identity"
	"tacit/node/config"
)

// Operator is the operator key on this node. It can be made while the daemon runs,
// and comes into force, or goes out of it, by records of others. A nil Operator has
// no key. It is safe for concurrent use.
type Operator struct {
	held   atomic.Pointer[identity.Key]
	counts func(identity.KeyID) bool // by the records
}

// NewOperator has no key yet; counts says which keys are operators'.
func NewOperator(counts func(identity.KeyID) bool) *Operator { return &Operator{counts: counts} }

// Key is the key with which this node may sign as an operator, or nil.
func (o *Operator) Key() *identity.Key {
	if k := o.Held(); k != nil && o.counts != nil && o.counts(k.ID()) {
		return k
	}
	return nil
}

// Held is the key on this node, whether or not the mesh takes what it signs.
func (o *Operator) Held() *identity.Key {
	if o == nil {
		return nil
	}
	return o.held.Load()
}

// create makes a key, or takes the one that is there.
func (o *Operator) create(s *config.Settled) error {
	k, err := identity.LoadOrCreateKey(s.State(fileOperator))
	if err == nil {
		o.held.Store(k)
	}
	return err
}

// Offer is a public key that a node offers to the operators. The node's own key and
// the key itself sign it, so that it can come by any way.
type Offer struct {
	Node   identity.Name `json:"node"`
	Public []byte        `json:"public"` // SPKI, DER
	Proof  []byte        `json:"proof"`  // by the offered key
	Member []byte        `json:"member"` // by the node's
}

const (
	offerPrefix  = "tacit-operator1."
	offerContext = "tacit operator offer v1"
	maxOffer     = 4 << 10
)

// ErrOffer says that an offer can't be read or isn't that node's.
var ErrOffer = errors.New("not the line that `tacit operator request` printed on that node: copy it again")

func (f Offer) message(td string) []byte {
	return []byte(td + "/" + string(f.Node) + "/" + base64.StdEncoding.EncodeToString(f.Public))
}

// OfferOperator makes this node's operator key, unless there is one that isn't revoked, and
// offers it.
func (m *Member) OfferOperator(s *config.Settled, revoked func(identity.KeyID) bool) (string, *identity.Key, error) {
	if k := m.Operator.Held(); k != nil && revoked(k.ID()) {
		if err := identity.ReplaceKey(s.State(fileOperator)); err != nil {
			return "", nil, err
		}
	}
	if err := m.Operator.create(s); err != nil {
		return "", nil, err
	}
	k := m.Operator.Held()
	f := Offer{Node: s.Name, Public: k.Public()}
	var err error
	if f.Proof, err = k.Sign(offerContext, f.message(m.Bundle.TrustDomain())); err != nil {
		return "", nil, err
	}
	if f.Member, err = m.Key.Sign(offerContext, f.message(m.Bundle.TrustDomain())); err != nil {
		return "", nil, err
	}
	text, err := json.Marshal(f)
	return offerPrefix + base64.RawURLEncoding.EncodeToString(text), k, err
}

// ParseOffer reads a node's offer and checks both signatures. Errors: ErrOffer.
func ParseOffer(line string, node identity.Name, td string, roll Roll) (*Offer, identity.KeyID, error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(line), offerPrefix)
	raw, err := base64.RawURLEncoding.DecodeString(body)
	var f Offer
	if !ok || len(line) > maxOffer || err != nil || json.Unmarshal(raw, &f) != nil {
		return nil, identity.KeyID{}, ErrOffer
	}
	if f.Node != node {
		return nil, identity.KeyID{}, fmt.Errorf("%w: it is of %.80q, not of %s", ErrOffer, f.Node, node)
	}
	id, err := identity.KeyIDOf(f.Public)
	if err != nil {
		return nil, id, fmt.Errorf("%w: %w", ErrOffer, err)
	}
	m, _ := roll.Member(node)
	msg := f.message(td)
	if identity.VerifySignature(f.Public, offerContext, msg, f.Proof) != nil || identity.VerifySignature(m.Public, offerContext, msg, f.Member) != nil {
		return nil, id, fmt.Errorf("%w: the key of %s didn't sign it", ErrOffer, node)
	}
	return &f, id, nil
}

// SPDX-License-Identifier: Apache-2.0

// Package membership is who this node is in its mesh: its keys, certificates
// and roots, how it becomes a member, how its certificates are renewed, and,
// where it is an authority, how it admits other nodes and issues to them. It
// must not decide who may call whom, nor open a listener.
package membership

import (
	"slices"

	"tacit/identity"
	"tacit/node/config"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// Member is who this node is, and what it may sign. It doesn't change while
// the daemon runs, but for Operator; [Certificates] holds the certificates in use.
type Member struct {
	Key       *identity.Key  // of the node; members know it by this key
	SVID      *identity.SVID // as it was when the daemon started
	Bundle    *identity.Bundle
	Authority *identity.Authority // nil where this node is none
	Operator  *Operator
	Mended
}

// Holds reports whether this node signs records with a key.
func (m *Member) Holds(id identity.KeyID) bool {
	keys := []*identity.Key{m.Key, m.Operator.Held()}
	if m.Authority != nil {
		keys = append(keys, m.Authority.Key())
	}
	return slices.ContainsFunc(keys, func(k *identity.Key) bool { return k != nil && k.ID() == id })
}

// Roll says who is in the mesh, and what each may do: a *ledger.View.
type Roll interface {
	Member(node identity.Name) (statement.Member, bool)
	Node(node identity.Name) (statement.Node, bool)
	Granted(node, service identity.Name) bool
	Revoked(key identity.KeyID) bool
	Authorities() []identity.Name
}

// Names of settings and files of the state directory.
const (
	setRoot     = "root" // DER; a node that has it is a member
	setTrust    = "trust-domain"
	setNode     = "node"
	setBegun    = "bootstrap-begun" // a bootstrap is under way, or was cut off
	setRootHere = "root-key"        // set where the root key belongs on this node
	setReserved = "reserved"        // last number of the operator key that a token carries, 8 bytes, big endian

	fileState    = "state.db"
	fileNodeKey  = "node.key"
	fileNodeCert = "node.crt"
	fileOperator = "operator.key"
	dirAuthority = "authority"
	dirCopies    = "copies"

	copyKey  = fileNodeKey // the second generation of node.key
	copyMesh = "mesh"      // what makes this node a member, for when state.db is lost
)

// newMember has a key, and the roots that state or admission gave.
func newMember(s *config.Settled, bundle *identity.Bundle) (*Member, error) {
	key, err := identity.LoadOrCreateKey(s.State(fileNodeKey))
	if err != nil {
		return nil, err
	}
	return &Member{Key: key, Bundle: bundle, Operator: &Operator{}}, nil
}

func (m *Member) ledger() *ledger.Ledger {
	return ledger.New(m.Bundle.TrustDomain(), m.Bundle.Fingerprint())
}

// DropRootKey removes the root key from this node. Only an authority has it.
func (m *Member) DropRootKey(s *config.Settled) error {
	return m.Authority.DropRootKey(s.State(dirAuthority))
}

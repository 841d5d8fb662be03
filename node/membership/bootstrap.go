// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"fmt"
	"os"

	"tacit/identity"
	"tacit/node/config"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// bootstrap creates the mesh. The settings are written last, in one place, so
// that a crash before leaves a node that is in no mesh and can begin again.
func bootstrap(s *config.Settled, st Store) (*Member, *ledger.Ledger, error) {
	m, err := found(s, st)
	if err != nil {
		return nil, nil, err
	}
	l := m.ledger()
	if err := m.signFounding(s.Name, l); err != nil {
		return nil, nil, err
	}
	return m, l, m.keep(s, st, l)
}

// found makes the keys and certificates of a first node.
func found(s *config.Settled, st Store) (*Member, error) {
	a, err := freshAuthority(s, st)
	if err != nil {
		return nil, err
	}
	m, err := newMember(s, a.Bundle())
	if err != nil {
		return nil, err
	}
	m.Authority = a
	if err := m.Operator.create(s); err != nil {
		return nil, err
	}
	return m, m.certify(s.Name)
}

func freshAuthority(s *config.Settled, st Store) (*identity.Authority, error) {
	err := startOver(s, st)
	if err == nil {
		err = st.Set(setBegun, []byte{1})
	}
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return identity.CreateAuthority(s.TrustDomain, s.Name, s.State(dirAuthority), s.LeafTTL)
}

// startOver removes what an interrupted bootstrap or join left: an authority
// whose signatures nobody holds, and records of a mesh that this node isn't in.
// Where no bootstrap was interrupted, an authority is in use: startOver refuses.
func startOver(s *config.Settled, st Store) error {
	dir := s.State(dirAuthority)
	begun, err := st.Get(setBegun)
	if err != nil {
		return err
	}
	if len(begun) == 0 && exists(dir) {
		return fmt.Errorf("%s belongs to a mesh, but state.db beside it is empty: restore state.db, or move the folder away", dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return st.DropRecords()
}

// certify gives this node a certificate by its own authority.
func (m *Member) certify(name identity.Name) error {
	csr, err := identity.NewCSR(m.Key)
	if err != nil {
		return err
	}
	chain, err := m.Authority.IssueNode(csr, name)
	if err != nil {
		return err
	}
	m.SVID = &identity.SVID{ID: identity.NodeID(m.Bundle.TrustDomain(), name), Chain: chain, Key: m.Key}
	return nil
}

// signFounding makes the records of a mesh with one node.
func (m *Member) signFounding(name identity.Name, l *ledger.Ledger) error {
	root, a, operator := m.Authority.RootKey(), m.Authority, m.Operator.Held()
	for _, r := range []struct {
		key  *identity.Key
		kind ledger.Kind
		name string
		body any
	}{
		{root, ledger.KindRoot, m.Bundle.TrustDomain(), statement.Root{Certificate: a.Root().Raw}},
		{root, ledger.KindAuthority, string(name), statement.Authority{Node: name, Certificate: a.Intermediate().Raw}},
		{root, ledger.KindOperator, operator.ID().String(), statement.Operator{Node: name, Public: operator.Public()}},
		{a.Key(), ledger.KindMember, string(name), statement.Member{Node: name, Public: m.Key.Public()}},
	} {
		if _, err := l.Sign(r.key, r.kind, r.name, r.body, false); err != nil {
			return fmt.Errorf("bootstrap: %s record: %w", r.kind, err)
		}
	}
	return nil
}

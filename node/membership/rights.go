// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"tacit/identity"
	"tacit/node/config"
	"tacit/policy/ledger"
)

// loadRights finds the authority and the operator key where this node has them.
// Where it should have one and doesn't, it goes on without, and says so.
func (m *Member) loadRights(s *config.Settled, st Store, l *ledger.Ledger) error {
	m.loadOperator(s, l)
	return m.loadAuthority(s, st, l)
}

func (m *Member) loadOperator(s *config.Settled, l *ledger.Ledger) {
	m.Operator = NewOperator(l.IsOperator)
	key, err := identity.LoadKey(s.State(fileOperator))
	m.Operator.held.Store(key)
	expected := false
	for _, o := range l.Operators() {
		if expected = expected || o.Node == s.Name; key != nil && o.Node == s.Name && key.ID() == keyOf(o.Public) {
			return
		}
	}
	switch {
	case key != nil && expected:
		err = errors.New("it isn't the key that the mesh's records name")
	case key != nil, !expected && errors.Is(err, fs.ErrNotExist):
		return
	}
	m.miss(s.State(fileOperator), "change policy", "restore the file from a backup, or use another operator's node", err)
}

func keyOf(spki []byte) identity.KeyID {
	id, _ := identity.KeyIDOf(spki) // zero for none, which is nobody's
	return id
}

func (m *Member) loadAuthority(s *config.Settled, st Store, l *ledger.Ledger) error {
	dir := s.State(dirAuthority)
	var err error
	m.Authority, err = identity.LoadAuthority(dir, s.LeafTTL)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist) && !slices.Contains(l.Authorities(), s.Name):
		return nil
	default:
		m.miss(dir, "issue certificates or admit nodes", "restore the folder from a backup, or renew at another authority", err)
		return nil
	}
	if m.Authority.Bundle().Fingerprint() != m.Bundle.Fingerprint() {
		return fmt.Errorf("%s belongs to another mesh than %s beside it: move the folder away", dir, fileNodeCert)
	}
	here, err := st.Get(setRootHere)
	if err == nil && len(here) > 0 && m.Authority.RootError() != nil {
		m.miss(dir+"/root.key", "sign for the root", "restore the file from a backup", m.Authority.RootError())
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"

	"tacit/identity"
	"tacit/node/config"
	"tacit/policy/ledger"
)

// Store keeps what makes this node a member.
type Store interface {
	// Get and Set are settings by name; Get returns nil for one that was never set.
	Get(name string) ([]byte, error)
	Set(name string, value []byte) error
	SaveRecords(recs []ledger.Record, last map[identity.KeyID]uint64, dropped []string) error
	LoadRecords() ([]ledger.Record, map[identity.KeyID]uint64, error)
	DropRecords() error
}

// ErrNoMesh: neither state nor settings make this node a member.
var ErrNoMesh = errors.New("this node is in no mesh yet: start it with --bootstrap, or with --join ADDR --token-file FILE")

// Enter makes this node a member: from its state, by bootstrap, or by token. It
// returns the ledger with all records that are known. Errors: ErrNoMesh.
func Enter(ctx context.Context, s *config.Settled, st Store) (*Member, *ledger.Ledger, error) {
	m, l, err := enter(ctx, s, st)
	if err == nil {
		m.Operator.counts = l.IsOperator
	}
	return m, l, err
}

func enter(ctx context.Context, s *config.Settled, st Store) (*Member, *ledger.Ledger, error) {
	root, err := st.Get(setRoot)
	switch {
	case err != nil:
		return nil, nil, err
	case len(root) > 0:
		return resume(s, st, root)
	case s.Bootstrap:
		return bootstrap(s, st)
	case len(s.Join) > 0:
		return join(ctx, s, st)
	}
	return nil, nil, ErrNoMesh
}

// resume reads what keep wrote.
func resume(s *config.Settled, st Store, root []byte) (*Member, *ledger.Ledger, error) {
	if err := checkKeptName(s, st); err != nil {
		return nil, nil, err
	}
	m, err := load(s, st, root)
	if err != nil {
		return nil, nil, err
	}
	recs, last, err := st.LoadRecords()
	if err != nil {
		return nil, nil, err
	}
	l := m.ledger()
	if err := l.Restore(recs, last); err != nil {
		return nil, nil, err
	}
	return m, l, m.reserve(st, l)
}

func checkKeptName(s *config.Settled, st Store) error {
	name, err := st.Get(setNode)
	if err == nil && string(name) != string(s.Name) {
		err = otherNode(s, string(name))
	}
	return err
}

func otherNode(s *config.Settled, name string) error {
	return fmt.Errorf("--node %s: the state in %s belongs to node %s; use that name or another --state-dir", s.Name, s.StateDir, name)
}

// load reads keys and certificates.
func load(s *config.Settled, st Store, root []byte) (*Member, error) {
	td, err := st.Get(setTrust)
	if err != nil {
		return nil, err
	}
	bundle, err := bundleOf(string(td), root)
	if err != nil {
		return nil, err
	}
	m, err := newMember(s, bundle)
	if err != nil {
		return nil, err
	}
	if m.SVID, err = identity.LoadSVID(s.State(fileNodeCert), m.Key); err != nil {
		return nil, err
	}
	return m, m.loadRights(s)
}

func bundleOf(td string, rootDER []byte) (*identity.Bundle, error) {
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		return nil, fmt.Errorf("root certificate: %w", err)
	}
	return identity.NewBundle(td, root), nil
}

// reserve keeps numbers that went out in tokens from being given again.
func (m *Member) reserve(st Store, l *ledger.Ledger) error {
	last, err := st.Get(setReserved)
	if err != nil || len(last) != 8 || m.Operator.Held() == nil {
		return err
	}
	l.Reserve(ledger.Dot{Signer: m.Operator.Held().ID(), Seq: binary.BigEndian.Uint64(last)})
	return nil
}

// keep writes what resume reads; the root last, since it marks a member.
func (m *Member) keep(s *config.Settled, st Store, l *ledger.Ledger) error {
	if err := m.SVID.Save(s.State(fileNodeCert)); err != nil {
		return err
	}
	if err := st.SaveRecords(l.Records(), l.Last(), nil); err != nil {
		return err
	}
	for _, set := range []struct {
		name  string
		value []byte
	}{
		{setNode, []byte(s.Name)},
		{setTrust, []byte(m.Bundle.TrustDomain())},
		{setRoot, m.Bundle.Roots()[0].Raw},
		{setBegun, nil},
	} {
		if err := st.Set(set.name, set.value); err != nil {
			return err
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

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
	// Keep and Kept are small files that survive the loss of all the rest.
	Keep(name string, data []byte) error
	Kept(name string) ([]byte, error)
	// Damage is what was found at the start. behind: records may be missing.
	Damage() (said []string, behind bool)
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
	if said, _ := st.Damage(); err != nil && len(said) > 0 {
		err = fmt.Errorf("%w (%s)", err, strings.Join(said, "; "))
	}
	return m, l, err
}

func enter(ctx context.Context, s *config.Settled, st Store) (*Member, *ledger.Ledger, error) {
	mended, err := recall(st)
	if err != nil {
		return nil, nil, err
	}
	root, err := st.Get(setRoot)
	switch {
	case err != nil:
		return nil, nil, err
	case len(root) > 0:
		return resume(s, st, root, mended)
	case s.Bootstrap:
		return bootstrap(s, st)
	case len(s.Join) > 0:
		return join(ctx, s, st)
	}
	return nil, nil, ErrNoMesh
}

// resume reads what keep wrote, as far as it is there.
func resume(s *config.Settled, st Store, root []byte, mended Mended) (*Member, *ledger.Ledger, error) {
	if err := checkKeptName(s, st); err != nil {
		return nil, nil, err
	}
	td, err := st.Get(setTrust)
	if err != nil {
		return nil, nil, err
	}
	m := &Member{Mended: mended}
	if m.Bundle, err = bundleOf(string(td), root); err != nil {
		return nil, nil, err
	}
	recs, last, err := st.LoadRecords()
	if err != nil {
		return nil, nil, err
	}
	said, behind := st.Damage()
	m.Said, m.Behind = append(said, m.Said...), behind
	l := m.ledger()
	m.restore(l, recs, last)
	if err := m.load(s, st, l); err != nil {
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
func (m *Member) load(s *config.Settled, st Store, l *ledger.Ledger) error {
	var err error
	if m.Key, err = m.loadKey(s, st, l); err != nil {
		return err
	}
	if err := m.loadRights(s, st, l); err != nil {
		return err
	}
	return m.loadCertificate(s, l)
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
	rootHere := []byte(nil)
	if m.Authority != nil && m.Authority.RootKey() != nil {
		rootHere = []byte{1}
	}
	for _, set := range []struct {
		name  string
		value []byte
	}{
		{setNode, []byte(s.Name)},
		{setTrust, []byte(m.Bundle.TrustDomain())},
		{setRootHere, rootHere},
		{setRoot, m.Bundle.Roots()[0].Raw},
		{setBegun, nil},
	} {
		if err := st.Set(set.name, set.value); err != nil {
			return err
		}
	}
	return m.Remember(s, st, l.View)
}

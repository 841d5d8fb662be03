// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"tacit/identity"
	"tacit/node/store"
	"tacit/policy/ledger"
)

// member is who this node is in its mesh: keys, certificate, roots, and what
// it may sign. It is loaded once; renewal replaces the certificate.
type member struct {
	key       *identity.Key
	svid      *identity.SVID
	bundle    *identity.Bundle
	authority *identity.Authority // nil where this node is none
	operator  *identity.Key       // nil where this node holds none
	gossipKey []byte
	ledger    *ledger.Ledger
}

// names of settings and files of the state directory
const (
	setRoot      = "root" // DER
	setTrust     = "trust-domain"
	setNode      = "node"
	setGossipKey = "gossip-key"
	setBegun     = "bootstrap-begun" // a bootstrap is under way, or was cut off
	setReserved  = "reserved"        // the last of the operator key's numbers that a token carries

	fileNodeKey  = "node.key"
	fileNodeCert = "node.crt"
	fileOperator = "operator.key"
	dirAuthority = "authority"
)

// enter makes this node a member: from its state, by bootstrap, or by token.
func enter(ctx context.Context, c *settled, st *store.Store) (*member, error) {
	root, err := st.Get(setRoot)
	if err != nil {
		return nil, err
	}
	switch {
	case len(root) > 0:
		return resume(c, st, root)
	case c.Bootstrap:
		return bootstrap(c, st)
	case len(c.Join) > 0:
		return join(ctx, c, st)
	}
	return nil, errNoMesh
}

func resume(c *settled, st *store.Store, rootDER []byte) (*member, error) {
	name, err := st.Get(setNode)
	if err != nil {
		return nil, err
	}
	if string(name) != string(c.name) {
		return nil, c.otherNode(string(name))
	}
	td, err := st.Get(setTrust)
	if err != nil {
		return nil, err
	}
	m, err := newMember(c, string(td), rootDER)
	if err != nil {
		return nil, err
	}
	if m.gossipKey, err = st.Get(setGossipKey); err != nil {
		return nil, err
	}
	if m.svid, err = identity.LoadSVID(c.path(fileNodeCert), m.key); err != nil {
		return nil, err
	}
	if err := m.loadRights(c); err != nil {
		return nil, err
	}
	recs, seen, err := st.LoadRecords()
	if err != nil {
		return nil, err
	}
	if err := m.ledger.Restore(recs, seen); err != nil {
		return nil, err
	}
	return m, m.reserve(st)
}

func (s *settled) otherNode(name string) error {
	return fmt.Errorf("--node %s: the state in %s belongs to node %s; use that name or another --state-dir", s.name, s.StateDir, name)
}

// reserve keeps numbers that went out in tokens from being given again.
func (m *member) reserve(st *store.Store) error {
	last, err := st.Get(setReserved)
	if err != nil || len(last) != 8 || m.operator == nil {
		return err
	}
	m.ledger.Reserve(ledger.Dot{Signer: m.operator.ID(), Seq: binary.BigEndian.Uint64(last)})
	return nil
}

func newMember(c *settled, td string, rootDER []byte) (*member, error) {
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		return nil, fmt.Errorf("root certificate: %w", err)
	}
	key, err := identity.LoadOrCreateKey(c.path(fileNodeKey))
	if err != nil {
		return nil, err
	}
	bundle := identity.NewBundle(td, root)
	return &member{key: key, bundle: bundle, ledger: ledger.New(td, bundle.Fingerprint())}, nil
}

// loadRights finds the authority and the operator key where this node has them.
func (m *member) loadRights(c *settled) error {
	var err error
	if m.authority, err = identity.LoadAuthority(c.path(dirAuthority), c.LeafTTL); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if m.operator, err = identity.LoadKey(c.path(fileOperator)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// bootstrap creates the mesh. The settings are written last, in one place, so
// that a crash in between leaves a node that is in no mesh and can begin again.
func bootstrap(c *settled, st *store.Store) (*member, error) {
	a, err := freshAuthority(c, st)
	if err != nil {
		return nil, err
	}
	m, err := newMember(c, c.TrustDomain, a.Root().Raw)
	if err != nil {
		return nil, err
	}
	m.authority = a
	if m.operator, err = identity.LoadOrCreateKey(c.path(fileOperator)); err != nil {
		return nil, err
	}
	if err := m.certify(c); err != nil {
		return nil, err
	}
	if err := m.foundingRecords(c); err != nil {
		return nil, err
	}
	m.gossipKey = make([]byte, 32)
	if _, err := rand.Read(m.gossipKey); err != nil {
		return nil, err
	}
	return m, m.keep(c, st)
}

// freshAuthority starts from nothing: what a bootstrap that was cut off left has signed nothing yet.
func freshAuthority(c *settled, st *store.Store) (*identity.Authority, error) {
	begun, err := st.Get(setBegun)
	if err != nil {
		return nil, err
	}
	if len(begun) > 0 {
		err = os.RemoveAll(c.path(dirAuthority))
	} else if _, statErr := os.Stat(c.path(dirAuthority)); statErr == nil {
		err = fmt.Errorf("%s belongs to a mesh, but state.db beside it is empty: restore state.db, or move the folder away to found a new mesh", c.path(dirAuthority))
	}
	if err == nil {
		err = st.Set(setBegun, []byte{1})
	}
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return identity.CreateAuthority(c.TrustDomain, c.name, c.path(dirAuthority), c.LeafTTL)
}

// certify gives this node a certificate by its own authority.
func (m *member) certify(c *settled) error {
	csr, err := identity.NewCSR(m.key)
	if err != nil {
		return err
	}
	chain, err := m.authority.IssueNode(csr, c.name)
	if err != nil {
		return err
	}
	m.svid = &identity.SVID{ID: identity.NodeID(m.bundle.TrustDomain(), c.name), Chain: chain, Key: m.key}
	return m.svid.Save(c.path(fileNodeCert))
}

func (m *member) foundingRecords(c *settled) error {
	root, a := m.authority.RootKey(), m.authority
	for _, r := range []struct {
		key  *identity.Key
		kind ledger.Kind
		name string
		body any
	}{
		{root, ledger.KindRoot, m.bundle.TrustDomain(), ledger.RootBody{Certificate: a.Root().Raw}},
		{root, ledger.KindAuthority, string(c.name), ledger.AuthorityBody{Node: c.name, Certificate: a.Intermediate().Raw}},
		{root, ledger.KindOperator, m.operator.ID().String(), ledger.OperatorBody{Node: c.name, Public: m.operator.Public()}},
		{a.Key(), ledger.KindMember, string(c.name), ledger.MemberBody{Node: c.name, Public: m.key.Public()}},
	} {
		if _, err := m.ledger.Sign(r.key, r.kind, r.name, r.body, false); err != nil {
			return fmt.Errorf("bootstrap: %s record: %w", r.kind, err)
		}
	}
	return nil
}

// keep writes what resume reads; the root last, since it marks a member.
func (m *member) keep(c *settled, st *store.Store) error {
	if err := st.SaveRecords(m.ledger.Records(), m.ledger.Seen()); err != nil {
		return err
	}
	for _, s := range []struct {
		name  string
		value []byte
	}{
		{setNode, []byte(c.name)},
		{setTrust, []byte(m.bundle.TrustDomain())},
		{setGossipKey, m.gossipKey},
		{setRoot, m.bundle.Roots()[0].Raw},
		{setBegun, nil},
	} {
		if err := st.Set(s.name, s.value); err != nil {
			return err
		}
	}
	return nil
}

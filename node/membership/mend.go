// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"tacit/identity"
	"tacit/node/config"
	"tacit/policy/ledger"
)

// Mended is what a start found lost or damaged in the state directory, and what
// follows from it.
type Mended struct {
	Said    []string         // at the start, for the log, a line each
	Missing map[string]error // what this node can't do since, by file
	Behind  bool             // records may be missing: nothing is allowed until a member has told all it knows
	kept    []ledger.Record  // by which other members are known, for when state.db has lost them
	Fresh   bool             // the certificate isn't on disk yet
}

func (m *Mended) say(format string, args ...any) {
	m.Said = append(m.Said, fmt.Sprintf(format, args...))
}

func (m *Mended) miss(file, can, do string, err error) {
	if m.Missing == nil {
		m.Missing = map[string]error{}
	}
	m.Missing[file] = fmt.Errorf("%s: %w: this node can't %s; %s", file, err, can, do)
}

// mesh is what makes this node a member, as a copy of its own.
type mesh struct {
	Node        string          `json:"node"`
	TrustDomain string          `json:"trust_domain"`
	Root        []byte          `json:"root"` // DER
	RootHere    []byte          `json:"root_here,omitempty"`
	Records     []ledger.Record `json:"records"` // of the members, and of who made them members
}

// recall puts back what makes this node a member where state.db has lost it.
func recall(st Store) (Mended, error) {
	var m Mended
	text, err := st.Kept(copyMesh)
	if err != nil || text == nil {
		if err != nil {
			m.say("%v; it is written anew", err)
		}
		return m, nil
	}
	var kept mesh
	if err := json.Unmarshal(text, &kept); err != nil {
		m.say("copy of %s: %v; it is written anew", copyMesh, err)
		return m, nil
	}
	m.kept = kept.Records
	for _, set := range []struct {
		name  string
		value []byte
	}{
		{setNode, []byte(kept.Node)}, {setTrust, []byte(kept.TrustDomain)},
		{setRootHere, kept.RootHere}, {setRoot, kept.Root},
	} {
		old, err := st.Get(set.name)
		if err == nil && len(old) == 0 && len(set.value) > 0 {
			err = st.Set(set.name, set.value)
		}
		if err != nil {
			return m, err
		}
	}
	return m, nil
}

// Remember keeps a copy of the node's key, and of what makes it a member.
func (m *Member) Remember(s *config.Settled, st Store, v *ledger.View) error {
	rootHere, err := st.Get(setRootHere)
	if err != nil {
		return err
	}
	kept := mesh{string(s.Name), m.Bundle.TrustDomain(), m.Bundle.Roots()[0].Raw, rootHere, v.Membership()}
	text, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	key, err := m.Key.PEM()
	return errors.Join(err, st.Keep(copyMesh, text), st.Keep(copyKey, key))
}

// restore fills the ledger. Records that were damaged are fetched from the other
// members; a node that has none goes on with what is left.
func (m *Member) restore(l *ledger.Ledger, recs []ledger.Record, last map[identity.KeyID]uint64) {
	if m.Behind {
		recs = append(recs, m.kept...)
	}
	if err := l.Restore(recs, last); err != nil {
		m.say("state.db: %v", err)
		m.Behind = true
	}
	if members := l.Members(); m.Behind && len(members) == 1 {
		m.say("records may be missing, and no other member can tell: see tacit intention list")
		m.Behind = false
	}
}

// loadKey returns the node's key, from its copy where the file is lost or damaged.
func (m *Member) loadKey(s *config.Settled, st Store, l *ledger.Ledger) (*identity.Key, error) {
	path := s.State(fileNodeKey)
	own, member := l.Member(s.Name)
	key, err := identity.LoadKey(path)
	if err == nil && (!member || bytes.Equal(own.Public, key.Public())) {
		return key, nil
	}
	text, bad := st.Kept(copyKey)
	if bad == nil && text != nil {
		copied, bad := identity.ParseKey(text)
		if bad == nil && (!member || bytes.Equal(own.Public, copied.Public())) {
			m.say("%s is %s: its copy is in use", path, lostOr(err))
			return copied, m.replace(path, func() error { return copied.Save(path) })
		}
	}
	if key != nil {
		if _, other := identity.LoadSVID(s.State(fileNodeCert), key); errors.Is(other, identity.ErrOtherKey) {
			return nil, other
		}
		err = fmt.Errorf("key %s: it isn't the key of node %s in the mesh's records", path, s.Name)
	}
	return nil, fmt.Errorf("%w; nothing else proves that this host is node %s: restore it, or revoke the node on an operator's node (tacit node revoke %s), remove %s and join by a new token",
		err, s.Name, s.Name, s.StateDir)
}

func lostOr(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "missing"
	}
	return "damaged"
}

// replace keeps a damaged file aside and writes a sound one. Where the disk has no
// room, the start goes on without.
func (m *Member) replace(path string, write func() error) error {
	if !exists(path) {
		if err := write(); err != nil {
			m.say("%s can't be written: %v", path, err)
		}
		return nil
	}
	aside, err := identity.Aside(path, write)
	if err != nil {
		m.say("%s can't be replaced: %v", path, err)
		return nil
	}
	m.say("what was damaged is kept as %s", aside)
	return nil
}

// loadCertificate reads the node's certificate. Where there is none, an authority
// makes one now; any other node asks for one with its key, as soon as it runs.
func (m *Member) loadCertificate(s *config.Settled, l *ledger.Ledger) error {
	path := s.State(fileNodeCert)
	svid, err := identity.LoadSVID(path, m.Key)
	if err == nil {
		_, err = m.Bundle.Verify(svid.Chain, svid.Chain[0].NotBefore.Add(time.Second))
	}
	if err == nil {
		m.SVID = svid
		return nil
	}
	own, member := l.Member(s.Name)
	if errors.Is(err, identity.ErrOtherKey) && !(member && bytes.Equal(own.Public, m.Key.Public())) {
		return err
	}
	m.Fresh = true
	m.say("%s is %s (%v): it is made anew", path, lostOr(err), err)
	if m.Authority != nil {
		if err := m.certify(s.Name); err != nil {
			return err
		}
	} else if m.SVID, err = identity.SelfSigned(identity.NodeID(m.Bundle.TrustDomain(), s.Name), m.Key); err != nil {
		return err
	}
	if exists(path) {
		if aside, err := identity.Aside(path, func() error { return nil }); err == nil {
			m.say("the damaged certificate is kept as %s", aside)
		}
	}
	return nil
}

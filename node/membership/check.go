// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"tacit/identity"
	"tacit/node/config"
)

// CheckState returns the error that Enter would return, as far as the files
// tell: a running daemon has state.db locked. It changes nothing.
func CheckState(s *config.Settled) error {
	switch {
	case exists(s.State(fileNodeCert)) || exists(filepath.Join(s.State(dirCopies), copyMesh)):
		return checkCertifiedName(s)
	case s.Bootstrap:
		return nil
	case len(s.Join) > 0:
		_, _, err := readToken(s)
		return err
	}
	return ErrNoMesh
}

// checkCertifiedName compares --node with the name in this node's certificate. One
// that is lost or damaged is made anew by a start.
func checkCertifiedName(s *config.Settled) error {
	key, err := identity.LoadKey(s.State(fileNodeKey))
	if err != nil && exists(filepath.Join(s.State(dirCopies), copyKey)) {
		return nil
	}
	if err != nil {
		return err
	}
	svid, err := identity.LoadSVID(s.State(fileNodeCert), key)
	switch {
	case err == nil && svid.ID.Name() != s.Name:
		return otherNode(s, string(svid.ID.Name()))
	case errors.Is(err, identity.ErrOtherKey):
		return err
	}
	return nil
}

// Files are the paths in the state directory that a start keeps or makes.
func Files(s *config.Settled) []string {
	names := []string{fileState, fileNodeKey, fileNodeCert, dirCopies}
	if s.Bootstrap && !exists(s.State(fileNodeCert)) || exists(s.State(dirAuthority)) {
		names = append(names, dirAuthority, fileOperator)
	} else if exists(s.State(fileOperator)) {
		names = append(names, fileOperator)
	}
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = s.State(name)
	}
	return paths
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// CheckPeer returns the check of a peer or service whose certificate verified: no
// key in its chain may be revoked, and a node's must be the member's. A certificate
// alone is no membership; whether a node may run a service is asked for each stream.
func CheckPeer(roll Roll) identity.PeerCheck {
	return func(id identity.ID, chain []identity.KeyID) error {
		for i, key := range chain {
			switch {
			case !roll.Revoked(key):
			case i == 0:
				return fmt.Errorf("%s: its key has been revoked", id)
			default:
				return fmt.Errorf("%s: the key %s of the authority that issued its certificate has been revoked", id, key.Short())
			}
		}
		if !id.IsNode() {
			return nil
		}
		if m, ok := roll.Member(id.Name()); !ok || sha256.Sum256(m.Public) != chain[0] {
			return fmt.Errorf("%s: no member with this key", id)
		}
		return nil
	}
}

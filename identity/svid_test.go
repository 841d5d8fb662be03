// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tacit/identity"
)

func TestSVIDFile(t *testing.T) {
	m := newMesh(t, "mesh.test")
	s, path := m.node("a"), filepath.Join(t.TempDir(), "node.crt")
	if _, err := identity.LoadSVID(path, s.Key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	must(t, s.Save(path))
	back, err := identity.LoadSVID(path, s.Key)
	if err != nil || back.ID != s.ID || len(back.Chain) != 2 || !back.Chain[0].Equal(s.Chain[0]) {
		t.Errorf("%+v, %v", back, err)
	}
	if _, err := identity.LoadSVID(path, newKey(t)); err == nil {
		t.Error("loaded with another key")
	}
	must(t, os.WriteFile(path, make([]byte, 100), 0o600))
	if _, err := identity.LoadSVID(path, s.Key); err == nil {
		t.Error("loaded from zeros")
	}
	must(t, (&identity.SVID{Chain: append(s.Chain[:0:0], m.Root()), Key: m.RootKey()}).Save(path))
	if _, err := identity.LoadSVID(path, m.RootKey()); err == nil {
		t.Error("loaded a certificate that names nobody of ours")
	}
}

func TestRenewAt(t *testing.T) {
	s := newMesh(t, "mesh.test").nodeFor("a", -time.Minute, 99*time.Minute)
	for rand, want := range map[float64]time.Duration{0: 40, 0.25: 45, 0.5: 50, 1: 60} {
		if got := s.RenewAt(rand).Sub(s.Chain[0].NotBefore); got.Round(time.Minute) != want*time.Minute {
			t.Errorf("%v: after %s, want %d minutes", rand, got, want)
		}
	}
}

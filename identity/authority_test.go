// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/identity"
)

func TestAuthorityFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "authority")
	if _, err := identity.LoadAuthority(dir, time.Hour); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("none there: %v", err)
	}
	a, err := identity.CreateAuthority("mesh.test", "alpha", dir, time.Hour)
	must(t, err)
	b, err := identity.LoadAuthority(dir, time.Hour)
	must(t, err)
	if !b.Root().Equal(a.Root()) || !b.Intermediate().Equal(a.Intermediate()) || b.TrustDomain() != "mesh.test" ||
		b.Key().ID() != a.Key().ID() || b.RootKey().ID() != a.RootKey().ID() || b.Bundle().Fingerprint() != a.RootKey().ID() {
		t.Error("loaded another authority than was made")
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 4 {
		t.Errorf("files: %v", entries)
	}
	for _, e := range entries {
		if st, err := e.Info(); err != nil || st.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), st.Mode(), err)
		}
	}
}

func TestAuthorityIsNeverOverwritten(t *testing.T) {
	dir := t.TempDir()
	_, err := identity.CreateAuthority("mesh.test", "alpha", dir, time.Hour)
	must(t, err)
	before := readAll(t, dir)
	if _, err := identity.CreateAuthority("mesh.test", "alpha", dir, time.Hour); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made a second time: %v", err)
	}
	if !bytes.Equal(before, readAll(t, dir)) {
		t.Error("its files changed")
	}
}

func readAll(t *testing.T, dir string) []byte {
	t.Helper()
	var all []byte
	for _, name := range []string{"root.key", "root.crt", "intermediate.key", "intermediate.crt"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		all = append(all, text...)
	}
	return all
}

// An interrupted creation leaves no authority, and the next one uses its keys.
func TestAuthorityCutOff(t *testing.T) {
	for _, missing := range [][]string{
		{"intermediate.crt"}, {"intermediate.crt", "root.crt"}, {"intermediate.crt", "root.crt", "intermediate.key"},
	} {
		dir := t.TempDir()
		first, err := identity.CreateAuthority("mesh.test", "alpha", dir, time.Hour)
		must(t, err)
		for _, name := range missing {
			must(t, os.Remove(filepath.Join(dir, name)))
		}
		if _, err := identity.LoadAuthority(dir, time.Hour); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without %v: %v", missing, err)
		}
		second, err := identity.CreateAuthority("mesh.test", "alpha", dir, time.Hour)
		must(t, err)
		if second.RootKey().ID() != first.RootKey().ID() {
			t.Errorf("without %v: another root key", missing)
		}
	}
}

// A damaged or missing file is an error other than fs.ErrNotExist.
func TestAuthorityDamaged(t *testing.T) {
	other := t.TempDir()
	_, err := identity.CreateAuthority("mesh.test", "alpha", other, time.Hour)
	must(t, err)
	for _, name := range []string{"root.key", "root.crt", "intermediate.key", "intermediate.crt"} {
		other, err := os.ReadFile(filepath.Join(other, name))
		must(t, err)
		for what, text := range map[string][]byte{"another's": other, "empty": {}, "zeros": make([]byte, 512), "cut": other[:len(other)/2], "lost": nil} {
			if what == "lost" && (name == "root.key" || name == "intermediate.crt") {
				continue // an authority without the root key; no authority
			}
			dir := t.TempDir()
			_, err := identity.CreateAuthority("mesh.test", "alpha", dir, time.Hour)
			must(t, err)
			if must(t, os.Remove(filepath.Join(dir, name))); text != nil {
				must(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
			}
			a, err := identity.LoadAuthority(dir, time.Hour)
			if name == "root.key" { // the intermediate goes on issuing
				if err != nil || a.RootKey() != nil || a.RootError() == nil || errors.Is(a.RootError(), fs.ErrNotExist) {
					t.Errorf("%s %s: %v", what, name, err)
				}
				continue
			}
			if err == nil || a != nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s %s: %v", what, name, err)
			}
		}
	}
}

func TestAuthorityWithoutRootKey(t *testing.T) {
	dir := t.TempDir()
	_, err := identity.CreateAuthority("mesh.test", "alpha", dir, time.Hour)
	must(t, err)
	must(t, os.Remove(filepath.Join(dir, "root.key")))
	a, err := identity.LoadAuthority(dir, time.Hour)
	must(t, err)
	m := &mesh{t, a}
	if _, err := a.Bundle().Verify(m.node("a").Chain, time.Now()); err != nil || a.RootKey() != nil {
		t.Errorf("%v, root key %v", err, a.RootKey())
	}
}

func TestAuthorityRefuses(t *testing.T) {
	for name, try := range map[string]func(dir string) error{
		"domain": func(dir string) error { return create("mesh..test", "alpha", dir, time.Hour) },
		"node":   func(dir string) error { return create("mesh.test", "Alpha", dir, time.Hour) },
		"life":   func(dir string) error { return create("mesh.test", "alpha", dir, 0) },
	} {
		dir := t.TempDir()
		if err := try(dir); err == nil {
			t.Errorf("bad %s: accepted", name)
		}
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			t.Errorf("bad %s: files were written", name)
		}
	}
}

func create(td string, node identity.Name, dir string, ttl time.Duration) error {
	_, err := identity.CreateAuthority(td, node, dir, ttl)
	return err
}

func TestAuthorityLives(t *testing.T) {
	m := newMesh(t, "mesh.test")
	day := 24 * time.Hour
	for _, c := range []struct {
		what     string
		from, to time.Time
		want     time.Duration
	}{
		{"root", m.Root().NotBefore, m.Root().NotAfter, 3650 * day},
		{"intermediate", m.Intermediate().NotBefore, m.Intermediate().NotAfter, 365 * day},
		{"leaf", m.node("a").Chain[0].NotBefore, m.node("a").Chain[0].NotAfter, time.Hour},
	} {
		if got := c.to.Sub(c.from) - 5*time.Minute; got < c.want-2*time.Second || got > c.want+2*time.Second {
			t.Errorf("%s lives %s, want %s", c.what, got, c.want)
		}
		if back := time.Since(c.from); back < 4*time.Minute || back > 6*time.Minute {
			t.Errorf("%s begins %s ago", c.what, back)
		}
	}
	if !m.Intermediate().MaxPathLenZero || !m.Root().IsCA || m.Intermediate().Subject.CommonName != "tacit intermediate of alpha" {
		t.Error("the CA certificates are not what they should be")
	}
}

// A leaf never outlives its intermediate, or an expired node could not recover.
func TestLeafEndsWithIntermediate(t *testing.T) {
	a, err := identity.CreateAuthority("mesh.test", "alpha", t.TempDir(), 1000*24*time.Hour)
	must(t, err)
	m := &mesh{t, a}
	if end := m.node("a").Chain[0].NotAfter; !end.Equal(a.Intermediate().NotAfter) {
		t.Errorf("leaf ends at %s, intermediate at %s", end, a.Intermediate().NotAfter)
	}
}

// past is the same authority with an intermediate that has ended.
func past(t *testing.T, dir string, a *identity.Authority) *identity.Authority {
	t.Helper()
	ca := *a.Intermediate()
	ca.NotBefore, ca.NotAfter = time.Now().Add(-4*time.Minute), time.Now().Add(-2*time.Minute)
	old := sign(t, &ca, a.Root(), a.Key().Signer().Public(), a.RootKey())
	must(t, os.WriteFile(filepath.Join(dir, "intermediate.crt"), identity.EncodeChain([]*x509.Certificate{old}), 0o600))
	b, err := identity.LoadAuthority(dir, time.Hour)
	must(t, err)
	return b
}

// An intermediate that has ended signs nothing more, and the error says so; a
// node that was off meanwhile recovers at an authority that has a new one.
func TestIntermediateEnded(t *testing.T) {
	dir := t.TempDir()
	a, err := identity.CreateAuthority("mesh.test", "alpha", dir, time.Hour)
	must(t, err)
	now, before := &mesh{t, a}, &mesh{t, past(t, dir, a)}
	if _, err := before.IssueNode(newCSR(t, newKey(t)), "a"); err == nil || !strings.Contains(err.Error(), "own certificate ended") {
		t.Errorf("issued by an ended intermediate: %v", err)
	}
	server := identity.ServerTLS(&source{now.node("alpha"), now.Bundle()}, nil)
	expired := &source{before.nodeFor("beta", -4*time.Minute, -3*time.Minute), now.Bundle()}
	out := connect(t, server, identity.ClientTLS(expired, identity.ALPNIssue, identity.NodeID("mesh.test", "alpha"), nil))
	if out.serverErr != nil || out.clientErr != nil {
		t.Errorf("server %v, client %v", out.serverErr, out.clientErr)
	}
}

// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Lifetimes of CA certificates. notBefore is backDated by five minutes, so that
// a host whose clock is slow accepts a new certificate.
const (
	rootTTL         = 10 * 365 * 24 * time.Hour
	intermediateTTL = 365 * 24 * time.Hour
	backDated       = 5 * time.Minute
)

// Authority is a node's intermediate CA, which issues leaf certificates, and, on
// the first node, the root CA above it.
type Authority struct {
	td           string
	leafTTL      time.Duration
	root         *x509.Certificate
	rootKey      atomic.Pointer[Key] // nil where only the intermediate is held
	rootErr      error               // why it couldn't be loaded
	intermediate *x509.Certificate
	key          *Key
}

// The files of an authority. intermediate.crt is written last: where it exists,
// the authority is complete.
const (
	fileRootKey         = "root.key"
	fileRoot            = "root.crt"
	fileRootExported    = "root.exported" // in the place of root.key
	fileIntermediateKey = "intermediate.key"
	fileIntermediate    = "intermediate.crt"
)

// CreateAuthority makes a root and node's intermediate, and keeps both below
// dir. It uses the keys that an interrupted attempt left, and never overwrites
// a complete authority (fs.ErrExist).
func CreateAuthority(td string, node Name, dir string, leafTTL time.Duration) (*Authority, error) {
	if err := checkAuthority(td, node, leafTTL); err != nil {
		return nil, err
	}
	_, err := os.Lstat(filepath.Join(dir, fileIntermediate))
	if err == nil {
		err = fs.ErrExist
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("new authority in %s: %w; start without --bootstrap to use the one that is there", dir, err)
	}
	a := &Authority{td: td, leafTTL: leafTTL}
	rootKey, err := LoadOrCreateKey(filepath.Join(dir, fileRootKey))
	if err != nil {
		return nil, err
	}
	a.rootKey.Store(rootKey)
	if a.key, err = LoadOrCreateKey(filepath.Join(dir, fileIntermediateKey)); err != nil {
		return nil, err
	}
	if err := a.selfSign(node); err != nil {
		return nil, err
	}
	if err := saveCertificate(filepath.Join(dir, fileRoot), a.root); err != nil {
		return nil, err
	}
	if err := saveCertificate(filepath.Join(dir, fileIntermediate), a.intermediate); err != nil {
		return nil, err
	}
	return a, nil
}

func checkAuthority(td string, node Name, leafTTL time.Duration) error {
	if _, err := ParseTrustDomain(td); err != nil {
		return err
	}
	if _, err := ParseID(NodeID(td, node).String()); err != nil {
		return err
	}
	return checkTTL(leafTTL)
}

func checkTTL(leafTTL time.Duration) error {
	if leafTTL < time.Second {
		return fmt.Errorf("life of certificates: %s is too short; give a second at least", leafTTL)
	}
	return nil
}

func saveCertificate(path string, c *x509.Certificate) error {
	return WriteFile(path, EncodeChain([]*x509.Certificate{c}), 0o600)
}

func (a *Authority) selfSign(node Name) error {
	root, err := caTemplate(a.td, "tacit root", rootTTL)
	if err != nil {
		return err
	}
	if a.root, err = signCertificate(root, root, a.RootKey().Public(), a.RootKey()); err != nil {
		return err
	}
	between, err := caTemplate(a.td, "tacit intermediate of "+string(node), intermediateTTL)
	if err != nil {
		return err
	}
	between.MaxPathLenZero = true
	between.PermittedURIDomains = []string{a.td}
	between.PermittedDNSDomainsCritical = true // of the whole extension, URIs too (RFC 5280, 4.2.1.10)
	a.intermediate, err = signCertificate(between, a.root, a.key.Public(), a.RootKey())
	return err
}

func caTemplate(td, name string, ttl time.Duration) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-backDated), NotAfter: time.Now().Add(ttl),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs: []*url.URL{{Scheme: "spiffe", Host: td}},
	}, nil
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}

func signCertificate(template, parent *x509.Certificate, spki []byte, by *Key) (*x509.Certificate, error) {
	pub, err := parseP256(spki)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, by.Signer())
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// LoadAuthority reads the files that CreateAuthority wrote. fs.ErrNotExist: this
// node is no authority.
func LoadAuthority(dir string, leafTTL time.Duration) (*Authority, error) {
	if err := checkTTL(leafTTL); err != nil {
		return nil, err
	}
	between, err := loadCertificate(filepath.Join(dir, fileIntermediate))
	if err != nil {
		return nil, err
	}
	a := &Authority{leafTTL: leafTTL, intermediate: between}
	if err := a.loadRest(dir); err != nil { // no %w: a missing file must not read as fs.ErrNotExist
		return nil, fmt.Errorf("authority in %s: %v; restore its files from a backup", dir, err)
	}
	return a, nil
}

func (a *Authority) loadRest(dir string) (err error) {
	if a.root, err = loadCertificate(filepath.Join(dir, fileRoot)); err != nil {
		return err
	}
	if a.key, err = LoadKey(filepath.Join(dir, fileIntermediateKey)); err != nil {
		return err
	}
	rootKey, err := LoadKey(filepath.Join(dir, fileRootKey))
	if rootKey != nil && !bytes.Equal(rootKey.public, a.root.RawSubjectPublicKeyInfo) {
		rootKey, err = nil, fmt.Errorf("%s and %s don't belong together", fileRootKey, fileRoot)
	}
	a.rootErr = err
	if _, exported := os.Stat(filepath.Join(dir, fileRootExported)); exported == nil && errors.Is(err, fs.ErrNotExist) {
		a.rootErr = nil
	}
	a.rootKey.Store(rootKey)
	return a.check()
}

// check refuses files that don't belong together, and sets the trust domain.
func (a *Authority) check() error {
	switch {
	case !bytes.Equal(a.key.public, a.intermediate.RawSubjectPublicKeyInfo):
		return fmt.Errorf("%s and %s don't belong together", fileIntermediateKey, fileIntermediate)
	case len(a.root.URIs) != 1:
		return fmt.Errorf("%s names no trust domain", fileRoot)
	}
	a.td = a.root.URIs[0].Host
	if err := a.intermediate.CheckSignatureFrom(a.root); err != nil {
		return fmt.Errorf("%s is not signed by %s: %w", fileIntermediate, fileRoot, err)
	}
	return nil
}

func loadCertificate(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	chain, err := DecodeChain(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return chain[0], nil
}

// Root is the root certificate.
func (a *Authority) Root() *x509.Certificate { return a.root }

// RootKey is the key on which all trust in the mesh rests; nil where it isn't kept.
func (a *Authority) RootKey() *Key { return a.rootKey.Load() }

// DropRootKey removes the root key from dir, and forgets it. A note stays, which
// says that it isn't lost.
func (a *Authority) DropRootKey(dir string) error {
	note := fmt.Sprintf("the key %s was exported with tacit ca export-root\n", a.RootKey().ID())
	if err := WriteFile(filepath.Join(dir, fileRootExported), []byte(note), 0o600); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, fileRootKey)); err != nil {
		return fmt.Errorf("root key: %w", err)
	}
	a.rootKey.Store(nil)
	return SyncDir(dir)
}

// RootError is why there is no root key, fs.ErrNotExist where there is no file; nil where
// it was exported.
func (a *Authority) RootError() error { return a.rootErr }

// Key is the intermediate's key; it signs memberships.
func (a *Authority) Key() *Key { return a.key }

// Intermediate is this node's CA certificate.
func (a *Authority) Intermediate() *x509.Certificate { return a.intermediate }

// TrustDomain is the trust domain of the mesh.
func (a *Authority) TrustDomain() string { return a.td }

// Bundle is the trust bundle of the mesh.
func (a *Authority) Bundle() *Bundle { return NewBundle(a.td, a.root) }

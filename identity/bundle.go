// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bundle is a trust bundle: a trust domain and its root certificates. Immutable.
type Bundle struct {
	td    string
	roots []*x509.Certificate
	pool  *x509.CertPool
}

// NewBundle makes a bundle. Join tokens are pinned to its first root.
func NewBundle(td string, roots ...*x509.Certificate) *Bundle {
	b := &Bundle{td: td, roots: slices.Clone(roots), pool: x509.NewCertPool()}
	for _, r := range roots {
		b.pool.AddCert(r)
	}
	return b
}

// TrustDomain is the trust domain of the mesh.
func (b *Bundle) TrustDomain() string { return b.td }

// Roots are the trusted roots.
func (b *Bundle) Roots() []*x509.Certificate { return slices.Clone(b.roots) }

// Fingerprint is the ID of the first root's key, zero without roots.
func (b *Bundle) Fingerprint() KeyID {
	if len(b.roots) == 0 {
		return KeyID{}
	}
	return sha256.Sum256(b.roots[0].RawSubjectPublicKeyInfo)
}

// Verify checks a chain, leaf first, by the rules for X509-SVIDs (SPIFFE
// X509-SVID, sections 2 to 5) and returns the leaf's ID.
func (b *Bundle) Verify(chain []*x509.Certificate, now time.Time) (ID, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return ID{}, fmt.Errorf("certificate chain: %d certificates, want 1 to %d", len(chain), maxChain)
	}
	id, err := leafID(chain[0], b.td)
	if err != nil {
		return ID{}, err
	}
	between := x509.NewCertPool()
	for i, c := range chain {
		if _, err := parseP256(c.RawSubjectPublicKeyInfo); err != nil {
			return ID{}, fmt.Errorf("certificate of %s: %w", id, err)
		}
		if i > 0 {
			between.AddCert(c)
		}
	}
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: b.pool, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return ID{}, fmt.Errorf("certificate of %s: %w", id, err)
	}
	return id, nil
}

// leafID returns the leaf's ID, and checks what Go's verifier doesn't: the
// trust domain, and the fields that an SVID must have.
func leafID(leaf *x509.Certificate, td string) (ID, error) {
	id, err := certificateID(leaf)
	if err != nil {
		return ID{}, err
	}
	if id.TrustDomain() != td {
		return ID{}, fmt.Errorf("certificate of %s: not of trust domain %s", id, td)
	}
	return id, leafForm(leaf)
}

func leafForm(leaf *x509.Certificate) error {
	_, critical := extension(leaf, oidKeyUsage)
	_, named := extension(leaf, oidSubjectAltName)
	switch {
	case leaf.IsCA:
		return errors.New("certificate: a leaf must not be a CA")
	case leaf.KeyUsage != x509.KeyUsageDigitalSignature || !critical:
		return errors.New("certificate: key usage must be digitalSignature alone, and critical")
	case !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth):
		return errors.New("certificate: extended key usage must have both serverAuth and clientAuth")
	case len(leaf.Subject.Names) == 0 && !named:
		return errors.New("certificate: without a subject, the subject alternative name must be critical")
	}
	return nil
}

var (
	oidKeyUsage       = asn1.ObjectIdentifier{2, 5, 29, 15} // RFC 5280, 4.2.1.3
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17} // RFC 5280, 4.2.1.6

	errOneURI = errors.New("certificate: want exactly one subject alternative name, a URI")
)

func extension(c *x509.Certificate, oid asn1.ObjectIdentifier) (value []byte, critical bool) {
	for _, e := range c.Extensions {
		if e.Id.Equal(oid) {
			return e.Value, e.Critical
		}
	}
	return nil, false
}

// certificateID reads the subject alternative name from the raw extension: Go's
// parsed form omits some kinds of names (otherName) and normalises URIs.
func certificateID(leaf *x509.Certificate) (ID, error) {
	const uri = 6 // GeneralName uniformResourceIdentifier
	value, _ := extension(leaf, oidSubjectAltName)
	var names []asn1.RawValue
	rest, err := asn1.Unmarshal(value, &names)
	if err != nil || len(rest) > 0 || len(names) != 1 {
		return ID{}, errOneURI
	}
	if names[0].Class != asn1.ClassContextSpecific || names[0].Tag != uri {
		return ID{}, errOneURI
	}
	return ParseID(string(names[0].Bytes))
}

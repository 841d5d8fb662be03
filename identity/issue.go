// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// IssueNode signs a node's certificate. It takes nothing but the key from the
// request.
func (a *Authority) IssueNode(csr []byte, node Name) ([]*x509.Certificate, error) {
	return a.issue(csr, NodeID(a.td, node))
}

// IssueService signs a service's certificate. It takes nothing but the key from
// the request.
func (a *Authority) IssueService(csr []byte, service Name) ([]*x509.Certificate, error) {
	return a.issue(csr, ServiceID(a.td, service))
}

func (a *Authority) issue(csr []byte, id ID) ([]*x509.Certificate, error) {
	_, spki, err := CSRKeyID(csr)
	if err != nil {
		return nil, err
	}
	template, err := a.leafTemplate(id, time.Now())
	if err != nil {
		return nil, err
	}
	leaf, err := signCertificate(template, a.intermediate, spki, a.key)
	if err != nil {
		return nil, fmt.Errorf("issue for %s: %w", id, err)
	}
	return []*x509.Certificate{leaf, a.intermediate}, nil
}

// leafTemplate ends no later than the intermediate, so that the chain is valid
// whenever its leaf is.
func (a *Authority) leafTemplate(id ID, now time.Time) (*x509.Certificate, error) {
	if _, err := ParseID(id.String()); err != nil {
		return nil, fmt.Errorf("issue: %w", err)
	}
	end := a.intermediate.NotAfter
	if !now.Before(end) {
		return nil, fmt.Errorf("issue: this authority's own certificate ended at %s; renew it, and check the clock", end.Format(time.RFC3339))
	}
	return leafOf(id, now.Add(-min(backDated, a.leafTTL/10)), earlier(now.Add(a.leafTTL), end))
}

func leafOf(id ID, from, to time.Time) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	uri := url.URL{Scheme: "spiffe", Host: id.td, Path: strings.TrimPrefix(id.String(), "spiffe://"+id.td)}
	return &x509.Certificate{
		SerialNumber: serial, URIs: []*url.URL{&uri},
		NotBefore: from, NotAfter: to,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, nil
}

// SelfSigned is the certificate of a node whose own was lost: it has expired, and
// proves on tacit-issue, and nowhere else, who holds the key.
func SelfSigned(id ID, key *Key) (*SVID, error) {
	now := time.Now()
	template, err := leafOf(id, now.Add(-2*time.Second), now.Add(-time.Second))
	if err != nil {
		return nil, err
	}
	leaf, err := signCertificate(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &SVID{ID: id, Chain: []*x509.Certificate{leaf}, Key: key}, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// NewCSR makes a certificate request (PKCS#10, DER) that holds only a key.
func NewCSR(key *Key) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key.Signer())
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return der, nil
}

const maxCSR = 16 << 10

// CSRKeyID checks a request's signature and returns its public key's ID and
// SubjectPublicKeyInfo (DER).
func CSRKeyID(der []byte) (KeyID, []byte, error) {
	if len(der) > maxCSR {
		return KeyID{}, nil, fmt.Errorf("certificate request: %d bytes, at most %d", len(der), maxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return KeyID{}, nil, fmt.Errorf("certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return KeyID{}, nil, fmt.Errorf("certificate request: %w", err)
	}
	id, err := KeyIDOf(csr.RawSubjectPublicKeyInfo)
	return id, csr.RawSubjectPublicKeyInfo, err
}

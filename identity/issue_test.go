// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"tacit/identity"
)

func request(t testing.TB, template x509.CertificateRequest, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	must(t, err)
	return der
}

// wishes are requests with more than a key: nothing but the key is used.
func wishes(t testing.TB) map[string]x509.CertificateRequest {
	other := &url.URL{Scheme: "spiffe", Host: "other.test", Path: "/node/root"}
	ext := func(last int, value ...byte) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, last}, Critical: true, Value: value}
	}
	out := map[string]x509.CertificateRequest{
		"subject":     {Subject: pkix.Name{CommonName: "root", Organization: []string{"x"}}},
		"two URIs":    {URIs: []*url.URL{other, other}},
		"DNS name":    {DNSNames: []string{"db"}},
		"IP and mail": {IPAddresses: []net.IP{{10, 0, 0, 1}}, EmailAddresses: []string{"a@b"}},
		"CA:TRUE":     {ExtraExtensions: []pkix.Extension{ext(19, 0x30, 3, 1, 1, 0xff)}},
		"keyCertSign": {ExtraExtensions: []pkix.Extension{ext(15, 3, 2, 1, 6)}},
		"other name":  {ExtraExtensions: []pkix.Extension{raw(t, true, otherName(t))}},
	}
	for name, uri := range badIDs {
		out["URI: "+name] = x509.CertificateRequest{ExtraExtensions: []pkix.Extension{raw(t, true, general(tagURI, uri))}}
	}
	return out
}

func TestIssueTakesOnlyTheKey(t *testing.T) {
	m := newMesh(t, "mesh.test")
	for name, wish := range wishes(t) {
		key := newKey(t)
		chain, err := m.IssueService(request(t, wish, key.Signer()), "db")
		if err != nil { // refused is as good: Go can't read it, or it is too long
			if !strings.HasPrefix(name, "URI: ") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		leaf := chain[0]
		id, err := m.Bundle().Verify(chain, time.Now())
		if err != nil || id != identity.ServiceID("mesh.test", "db") {
			t.Errorf("%s: %s, %v", name, id, err)
		}
		if len(leaf.Subject.Names) > 0 || leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.ExtKeyUsage) != 2 ||
			!bytes.Equal(leaf.RawSubjectPublicKeyInfo, key.Public()) || len(leaf.Extensions) != 5 {
			t.Errorf("%s: something of the request is in the certificate", name)
		}
	}
}

func TestIssueChecksRequest(t *testing.T) {
	m := newMesh(t, "mesh.test")
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	good := newCSR(t, newKey(t))
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	long := x509.CertificateRequest{Subject: pkix.Name{CommonName: strings.Repeat("a", 64<<10)}}
	for name, csr := range map[string][]byte{
		"nothing": nil, "cut": good[:len(good)-1], "trailing": append(bytes.Clone(good), 0), "not signed by its key": forged,
		"P-384": request(t, x509.CertificateRequest{}, p384), "64 KiB": request(t, long, newKey(t).Signer()),
	} {
		if _, err := m.IssueNode(csr, "a"); err == nil {
			t.Errorf("%s: signed for a node", name)
		}
		if _, err := m.IssueService(csr, "db"); err == nil {
			t.Errorf("%s: signed for a service", name)
		}
	}
}

func TestIssueChecksName(t *testing.T) {
	m := newMesh(t, "mesh.test")
	csr := newCSR(t, newKey(t))
	for _, name := range []identity.Name{"", "*", "DB", "d%2eb", "db/", "ingress/", "ingress/a/b", "../node/a", "a.b", "a b", "db#", "db?", identity.Name(strings.Repeat("a", 64<<10))} {
		if _, err := m.IssueNode(csr, name); err == nil {
			t.Errorf("node %.20q: signed", name)
		}
		if _, err := m.IssueService(csr, name); err == nil {
			t.Errorf("service %.20q: signed", name)
		}
	}
}

func TestCSR(t *testing.T) {
	k := newKey(t)
	id, spki, err := identity.CSRKeyID(newCSR(t, k))
	if err != nil || id != k.ID() || !bytes.Equal(spki, k.Public()) {
		t.Errorf("%s, %v", id, err)
	}
}

func FuzzCSR(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(newCSR(f, newKey(f)))
	for _, wish := range wishes(f) {
		f.Add(request(f, wish, newKey(f).Signer()))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		id, spki, err := identity.CSRKeyID(der)
		if err != nil {
			return
		}
		if again, err := identity.KeyIDOf(spki); err != nil || again != id {
			t.Fatalf("key %s, then %s, %v", id, again, err)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"tacit/identity"
)

func TestVerify(t *testing.T) {
	m := newMesh(t, "mesh.test")
	for _, s := range []*identity.SVID{m.node("a"), m.service("db")} {
		id, err := m.Bundle().Verify(s.Chain, time.Now())
		if err != nil || id != s.ID {
			t.Errorf("%s: %s, %v", s.ID, id, err)
		}
		id, err = m.Bundle().Verify(append(s.Chain, m.Root()), time.Now()) // a root that is sent harms nothing
		if err != nil || id != s.ID {
			t.Errorf("%s with its root: %s, %v", s.ID, id, err)
		}
	}
	// The leaf that badLeaves changes is itself good.
	id, err := m.Bundle().Verify(m.forge(goodLeaf(t, "spiffe://mesh.test/svc/db"), newKey(t).Signer().Public()), time.Now())
	if err != nil || id.Name() != "db" {
		t.Errorf("forged but good: %s, %v", id, err)
	}
}

// raw is a subject alternative name of exactly these names, critical or not.
func raw(t testing.TB, critical bool, names ...asn1.RawValue) pkix.Extension {
	t.Helper()
	value, err := asn1.Marshal(names)
	must(t, err)
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: critical, Value: value}
}

// badLeaves changes a good leaf into each of the forms that the verifier must refuse.
func badLeaves(t testing.TB) map[string]func(c *x509.Certificate) {
	good := general(tagURI, "spiffe://mesh.test/svc/db")
	san := func(critical bool, names ...asn1.RawValue) func(*x509.Certificate) {
		ext := raw(t, critical, names...)
		return func(c *x509.Certificate) { c.URIs, c.ExtraExtensions = nil, []pkix.Extension{ext} }
	}
	weakUsage := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 7, 128}} // digitalSignature, not critical
	unknown := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}
	return map[string]func(c *x509.Certificate){
		"CA:TRUE":           func(c *x509.Certificate) { c.IsCA = true },
		"keyCertSign":       func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign },
		"cRLSign":           func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign },
		"no key usage":      func(c *x509.Certificate) { c.KeyUsage = 0 },
		"usage uncritical":  func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{weakUsage} },
		"client only":       func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
		"server only":       func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
		"no extended usage": func(c *x509.Certificate) { c.ExtKeyUsage = nil },
		"expired":           func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) },
		"not yet":           func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) },
		"no name":           func(c *x509.Certificate) { c.URIs, c.Subject.CommonName = nil, "db" },
		"two URIs":          func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) },
		"DNS name":          func(c *x509.Certificate) { c.DNSNames = []string{"db"} },
		"IP address":        func(c *x509.Certificate) { c.IPAddresses = []net.IP{{10, 0, 0, 1}} },
		"mail":              func(c *x509.Certificate) { c.EmailAddresses = []string{"a@b"} },
		"other domain":      func(c *x509.Certificate) { c.URIs[0] = &url.URL{Scheme: "spiffe", Host: "other.test", Path: "/svc/db"} },
		"sub domain": func(c *x509.Certificate) {
			c.URIs[0] = &url.URL{Scheme: "spiffe", Host: "a.mesh.test", Path: "/svc/db"}
		},
		"other name":       san(true, good, otherName(t)),
		"other name alone": san(true, otherName(t)),
		"raw two URIs":     san(true, good, good),
		"raw DNS":          san(true, general(tagDNS, "spiffe://mesh.test/svc/db")),
		"name uncritical":  san(false, good),
		"unknown critical": func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{unknown} },
	}
}

func TestVerifyRefuses(t *testing.T) {
	m := newMesh(t, "mesh.test")
	for name, change := range badLeaves(t) {
		leaf := goodLeaf(t, "spiffe://mesh.test/svc/db")
		change(leaf)
		refused(t, m, name, leaf)
	}
	for name, uri := range badIDs {
		leaf := goodLeaf(t, "spiffe://mesh.test/svc/db")
		leaf.URIs, leaf.ExtraExtensions = nil, []pkix.Extension{raw(t, true, general(tagURI, uri))}
		refused(t, m, "URI: "+name, leaf)
	}
}

// refused expects Go to refuse to read the certificate, or Verify to refuse it.
func refused(t *testing.T, m *mesh, name string, leaf *x509.Certificate) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, leaf, m.Intermediate(), newKey(t).Signer().Public(), m.Key().Signer())
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return
	}
	if id, err := m.Bundle().Verify([]*x509.Certificate{c, m.Intermediate()}, time.Now()); err == nil || !id.IsZero() {
		t.Errorf("%s: accepted as %s", name, id)
	}
}

func TestVerifyRefusesChains(t *testing.T) {
	m, other := newMesh(t, "mesh.test"), newMesh(t, "mesh.test")
	node := m.node("a")
	below := sign(t, goodLeaf(t, "spiffe://mesh.test/svc/db"), node.Chain[0], newKey(t).Signer().Public(), node.Key)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	onCurve := func(pub crypto.PublicKey) []*x509.Certificate {
		return m.forge(goodLeaf(t, "spiffe://mesh.test/svc/db"), pub)
	}
	for name, chain := range map[string][]*x509.Certificate{
		"none":              nil,
		"no intermediate":   node.Chain[:1],
		"another root":      other.node("a").Chain,
		"wrong order":       {node.Chain[1], node.Chain[0]},
		"the root itself":   {m.Root()},
		"the intermediate":  {m.Intermediate(), m.Root()},
		"signed by a leaf":  {below, node.Chain[0], m.Intermediate()},
		"key on P-384":      onCurve(p384.Public()),
		"five certificates": {node.Chain[0], m.Intermediate(), m.Intermediate(), m.Intermediate(), m.Intermediate()},
	} {
		if id, err := m.Bundle().Verify(chain, time.Now()); err == nil {
			t.Errorf("%s: accepted as %s", name, id)
		}
	}
	if _, err := identity.NewBundle("mesh.test").Verify(node.Chain, time.Now()); err == nil {
		t.Error("accepted without any root")
	}
}

// A stolen intermediate signs nothing for another trust domain, even where its root is trusted.
func TestIntermediateIsConstrained(t *testing.T) {
	m := newMesh(t, "mesh.test")
	chain := m.forge(goodLeaf(t, "spiffe://other.test/svc/db"), newKey(t).Signer().Public())
	_, err := identity.NewBundle("other.test", m.Root()).Verify(chain, time.Now())
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) || invalid.Reason != x509.CANotAuthorizedForThisName {
		t.Errorf("%v, want a breach of name constraints", err)
	}
}

func TestVerifyAtTime(t *testing.T) {
	m := newMesh(t, "mesh.test")
	s := m.node("a")
	for at, ok := range map[time.Time]bool{
		s.Chain[0].NotBefore.Add(time.Second): true, s.Chain[0].NotBefore.Add(-time.Second): false,
		s.Chain[0].NotAfter: true, s.Chain[0].NotAfter.Add(time.Second): false,
	} {
		if _, err := m.Bundle().Verify(s.Chain, at); (err == nil) != ok {
			t.Errorf("at %s: %v", at, err)
		}
	}
}

func TestBundle(t *testing.T) {
	m, other := newMesh(t, "mesh.test"), newMesh(t, "mesh.test")
	both := identity.NewBundle("mesh.test", m.Root(), other.Root())
	for _, x := range []*mesh{m, other} {
		if _, err := both.Verify(x.node("a").Chain, time.Now()); err != nil {
			t.Errorf("one of two roots: %v", err)
		}
	}
	both.Roots()[0] = nil
	if both.Roots()[0] == nil || both.Fingerprint() != m.RootKey().ID() || both.TrustDomain() != "mesh.test" {
		t.Error("a bundle changed, or names another root")
	}
	if identity.NewBundle("mesh.test").Fingerprint() != (identity.KeyID{}) {
		t.Error("a fingerprint without a root")
	}
}

func TestChainText(t *testing.T) {
	m := newMesh(t, "mesh.test")
	chain := m.node("a").Chain
	text := identity.EncodeChain(chain)
	back, err := identity.DecodeChain(text)
	if err != nil || len(back) != 2 || !back[0].Equal(chain[0]) || !back[1].Equal(chain[1]) {
		t.Errorf("%d certificates, %v", len(back), err)
	}
	for name, bad := range map[string]string{
		"nothing": "", "text": "hello", "too many": strings.Repeat(string(text), 3),
		"a key": strings.ReplaceAll(string(text), "CERTIFICATE", "PRIVATE KEY"),
		"bytes": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
	} {
		if _, err := identity.DecodeChain([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestReencodedKeyIsRefused: Go verifies a certificate whose public key has another
// encoding, and so another ID; with it, a revoked key would be in use again.
func TestReencodedKeyIsRefused(t *testing.T) {
	m := newMesh(t, "alpha")
	key := newKey(t)
	leaf := m.forge(goodLeaf(t, "spiffe://mesh.test/svc/db"), key.Signer().Public())[0]
	other := shifted(t, key.Public())
	tbs := bytes.Replace(leaf.RawTBSCertificate, key.Public(), other, 1)
	sum := sha256.Sum256(tbs)
	sig, err := m.Key().Signer().Sign(rand.Reader, sum[:], crypto.SHA256)
	must(t, err)
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
	must(t, err)
	again, err := x509.ParseCertificate(der)
	must(t, err)
	if err := again.CheckSignatureFrom(m.Intermediate()); err != nil || !again.PublicKey.(*ecdsa.PublicKey).Equal(key.Signer().Public()) {
		t.Fatalf("not a good forgery: %v", err)
	}
	if id, err := m.Bundle().Verify([]*x509.Certificate{again, m.Intermediate()}, time.Now()); err == nil {
		t.Errorf("accepted as %s", id)
	}
}

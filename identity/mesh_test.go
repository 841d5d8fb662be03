// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"tacit/identity"
)

// mesh is an authority, and makes certificates that no authority would sign.
type mesh struct {
	t testing.TB
	*identity.Authority
}

func newMesh(t testing.TB, td string) *mesh {
	t.Helper()
	a, err := identity.CreateAuthority(td, "alpha", t.TempDir(), time.Hour)
	must(t, err)
	return &mesh{t, a}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.NewKey()
	must(t, err)
	return k
}

func newCSR(t testing.TB, k *identity.Key) []byte {
	t.Helper()
	csr, err := identity.NewCSR(k)
	must(t, err)
	return csr
}

func (m *mesh) node(name identity.Name) *identity.SVID {
	m.t.Helper()
	k := newKey(m.t)
	chain, err := m.IssueNode(newCSR(m.t, k), name)
	must(m.t, err)
	return &identity.SVID{ID: identity.NodeID(m.TrustDomain(), name), Chain: chain, Key: k}
}

func (m *mesh) service(name identity.Name) *identity.SVID {
	m.t.Helper()
	k := newKey(m.t)
	chain, err := m.IssueService(newCSR(m.t, k), name)
	must(m.t, err)
	return &identity.SVID{ID: identity.ServiceID(m.TrustDomain(), name), Chain: chain, Key: k}
}

// nodeFor is a node certificate whose life is from..to, counted from now.
func (m *mesh) nodeFor(name identity.Name, from, to time.Duration) *identity.SVID {
	m.t.Helper()
	k, id := newKey(m.t), identity.NodeID(m.TrustDomain(), name)
	leaf := goodLeaf(m.t, id.String())
	leaf.NotBefore, leaf.NotAfter = time.Now().Add(from), time.Now().Add(to)
	return &identity.SVID{ID: id, Chain: m.forge(leaf, k.Signer().Public()), Key: k}
}

// forge signs whatever it is given with the intermediate's own key.
func (m *mesh) forge(leaf *x509.Certificate, pub crypto.PublicKey) []*x509.Certificate {
	m.t.Helper()
	return []*x509.Certificate{sign(m.t, leaf, m.Intermediate(), pub, m.Key()), m.Intermediate()}
}

func sign(t testing.TB, leaf, parent *x509.Certificate, pub crypto.PublicKey, by *identity.Key) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, pub, by.Signer())
	must(t, err)
	c, err := x509.ParseCertificate(der)
	must(t, err)
	return c
}

func goodLeaf(t testing.TB, uri string) *x509.Certificate {
	t.Helper()
	u, err := url.Parse(uri)
	must(t, err)
	return &x509.Certificate{
		SerialNumber: big.NewInt(7), URIs: []*url.URL{u},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

const (
	tagOther = 0 // otherName
	tagDNS   = 2 // dNSName
	tagURI   = 6 // uniformResourceIdentifier
)

// general is one GeneralName, byte for byte.
func general(tag int, text string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(text)}
}

// otherName is a kind of name that Go's parser skips.
func otherName(t testing.TB) asn1.RawValue {
	t.Helper()
	oid, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3})
	must(t, err)
	value, err := asn1.MarshalWithParams("root@elsewhere", "utf8,explicit,tag:0")
	must(t, err)
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagOther, IsCompound: true, Bytes: append(oid, value...)}
}

// source is a node with a certificate that can be changed between handshakes.
type source struct {
	svid   *identity.SVID
	bundle *identity.Bundle
}

func (s *source) NodeSVID() *identity.SVID { return s.svid }
func (s *source) Bundle() *identity.Bundle { return s.bundle }

// outcome is how a handshake and one byte from server to client went.
type outcome struct {
	client, server       tls.ConnectionState
	clientErr, serverErr error
}

func connect(t testing.TB, server, client *tls.Config) outcome {
	t.Helper()
	a, b := net.Pipe()
	deadline := time.Now().Add(5 * time.Second)
	must(t, a.SetDeadline(deadline))
	must(t, b.SetDeadline(deadline))
	out, done := outcome{}, make(chan struct{})
	go func() {
		defer close(done)
		defer b.Close()
		conn := tls.Server(b, server)
		if out.serverErr = conn.Handshake(); out.serverErr == nil {
			_, out.serverErr = conn.Write([]byte{1})
		}
		out.server = conn.ConnectionState()
	}()
	conn := tls.Client(a, client)
	if out.clientErr = conn.Handshake(); out.clientErr == nil {
		_, out.clientErr = conn.Read(make([]byte, 1))
	}
	out.client = conn.ConnectionState()
	must(t, a.Close())
	<-done
	return out
}

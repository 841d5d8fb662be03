// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The protocols of the lane port (ALPN, RFC 7301).
const (
	ALPNLane  = "tacit-lane/2"  // a lane (docs/lane-protocol.md): both ends present node certificates
	ALPNEnrol = "tacit-enrol/1" // a new node with a token: only the authority presents one
	ALPNIssue = "tacit-issue/1" // renewal: both present one, the node's may have expired
	ALPNHere  = "tacit-here/1"  // a handshake without data, which proves that a node is at an address
)

// ALPNGossip is the protocol of streams on the gossip port: both ends are members.
const ALPNGossip = "tacit-gossip/1"

// Source gives the certificates in use; they can change at any time.
type Source interface {
	NodeSVID() *SVID
	Bundle() *Bundle
}

// PeerCheck is a further condition on a peer or service whose certificate has been
// verified, such as that none of the keys in its chain is revoked: its own comes
// first. Keys are all that it gets, since a key can have many certificates.
type PeerCheck func(id ID, chain []KeyID) error

// ChainKeys are the keys of a verified chain, in its order.
func ChainKeys(chain []*x509.Certificate) []KeyID {
	keys := make([]KeyID, len(chain))
	for i, c := range chain {
		keys[i] = sha256.Sum256(c.RawSubjectPublicKeyInfo)
	}
	return keys
}

// base is common to all our connections: TLS 1.3, no session tickets, and Go's
// default key exchanges, which include hybrid ones.
func base(alpn ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: alpn, SessionTicketsDisabled: true,
		DynamicRecordSizingDisabled: true} // every frame is one record, from the first one on
}

// ServerTLS is for the lane port. The negotiated ALPN protocol determines which
// certificate a client must present.
func ServerTLS(src Source, check PeerCheck) *tls.Config {
	outer := base(ALPNLane, ALPNEnrol, ALPNIssue, ALPNHere)
	outer.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := current(src)
		if err == nil && slices.Contains(hello.SupportedProtos, ALPNEnrol) {
			cert.Certificate = append(cert.Certificate, src.Bundle().roots[0].Raw) // a new node knows only the root's fingerprint
		}
		return cert, err
	}
	outer.ClientAuth = tls.RequestClientCert // VerifyConnection decides by ALPN who must present one
	outer.VerifyConnection = func(cs tls.ConnectionState) error {
		switch cs.NegotiatedProtocol {
		case ALPNEnrol:
			return verifyNoCertificate(cs)
		case ALPNLane, ALPNHere:
			return verifyNode(src.Bundle(), cs, time.Now(), check)
		case ALPNIssue:
			return verifyRenewal(src.Bundle(), cs, check)
		}
		return errors.New("no protocol of ours was offered")
	}
	return outer
}

// GossipTLS is for the gossip port, and GossipClientTLS for dialling it. As with
// renewal a certificate may have expired, so that gossip goes on where no authority
// answers or a clock is wrong: check must compare the key with the member's record.
func GossipTLS(src Source, check PeerCheck) *tls.Config {
	c := base(ALPNGossip)
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current(src) }
	c.ClientAuth = tls.RequireAnyClientCert // VerifyConnection verifies it
	c.VerifyConnection = gossiping(src, check)
	return c
}

// GossipClientTLS accepts every node that check accepts.
func GossipClientTLS(src Source, check PeerCheck) *tls.Config {
	c := clientBase(ALPNGossip)
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return current(src) }
	c.VerifyConnection = gossiping(src, check)
	return c
}

func gossiping(src Source, check PeerCheck) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		if cs.NegotiatedProtocol != ALPNGossip {
			return fmt.Errorf("the peer doesn't speak %s", ALPNGossip)
		}
		return verifyRenewal(src.Bundle(), cs, check)
	}
}

// current is the certificate for this handshake; src may have none yet.
func current(src Source) (*tls.Certificate, error) {
	svid, bundle := src.NodeSVID(), src.Bundle()
	if svid == nil || len(svid.Chain) == 0 || bundle == nil || len(bundle.roots) == 0 {
		return nil, errors.New("this node has no certificate yet; an authority must answer first")
	}
	cert := svid.TLS()
	return &cert, nil
}

// ClientTLS is for dialling the node expect, and no other, with this node's
// certificate.
func ClientTLS(src Source, alpn string, expect ID, check PeerCheck) *tls.Config {
	c := clientBase(alpn)
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return current(src) }
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		return verifyExpected(src.Bundle(), cs, alpn, expect, check)
	}
	return c
}

// EnrolTLS is for dialling a token's authority, whose chain must end in the
// pinned root.
func EnrolTLS(t *Token) *tls.Config {
	c := clientBase(ALPNEnrol)
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		root, err := pinnedRoot(cs.PeerCertificates, t)
		if err != nil {
			return err
		}
		return verifyExpected(NewBundle(t.TrustDomain, root), cs, ALPNEnrol, NodeID(t.TrustDomain, t.Authority), nil)
	}
	return c
}

// clientBase turns off Go's own verification, since the names in our
// certificates are no host names. VerifyConnection, which Go runs on every
// handshake, verifies the chain.
func clientBase(alpn string) *tls.Config {
	c := base(alpn)
	c.InsecureSkipVerify = true
	return c
}

// pinnedRoot is the last certificate that the authority sent. Only in enrolment
// does a chain include the root, since the new node has only its fingerprint.
func pinnedRoot(chain []*x509.Certificate, t *Token) (*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, errNoCertificate
	}
	c := chain[len(chain)-1]
	if KeyID(sha256.Sum256(c.RawSubjectPublicKeyInfo)) != t.Root || !c.IsCA || c.CheckSignatureFrom(c) != nil {
		return nil, errors.New("this is not the mesh that the token is for: its CA is another one; check the address, or make a token there")
	}
	return c, nil
}

func verifyExpected(b *Bundle, cs tls.ConnectionState, alpn string, expect ID, check PeerCheck) error {
	if cs.NegotiatedProtocol != alpn {
		return fmt.Errorf("the peer doesn't speak %s", alpn)
	}
	return verifyNode(b, cs, time.Now(), func(id ID, chain []KeyID) error {
		if id != expect {
			return fmt.Errorf("the peer is %s, not %s", id, expect)
		}
		if check == nil {
			return nil
		}
		return check(id, chain)
	})
}

func verifyNode(b *Bundle, cs tls.ConnectionState, now time.Time, check PeerCheck) error {
	if len(cs.PeerCertificates) == 0 {
		return errNoCertificate
	}
	if b == nil {
		return errors.New("this node knows no roots yet")
	}
	id, err := b.Verify(cs.PeerCertificates, now)
	if err != nil {
		return err
	}
	if !id.IsNode() {
		return fmt.Errorf("%s is no node", id)
	}
	if check == nil {
		return nil
	}
	return check(id, ChainKeys(cs.PeerCertificates))
}

// verifyNoCertificate refuses a client that presents a certificate to enrol: it
// isn't verified, and its name must not be taken from the connection.
func verifyNoCertificate(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) > 0 {
		return fmt.Errorf("%s takes no certificate from a client", ALPNEnrol)
	}
	return nil
}

// verifyRenewal also accepts a certificate that has expired, by verifying its
// chain at the time of its expiry, and one whose authority is revoked: a node that
// was off meanwhile recovers by its long-term key, which the handshake has proven.
// The handler of tacit-issue must compare that key with the member's record before
// it issues anything. check gets this key alone, and still refuses a revoked one.
func verifyRenewal(b *Bundle, cs tls.ConnectionState, check PeerCheck) error {
	if len(cs.PeerCertificates) == 0 {
		return errNoCertificate
	}
	if leaf := cs.PeerCertificates[0]; check != nil && len(cs.PeerCertificates) == 1 && selfSigned(leaf) {
		return verifyOwnKey(b, leaf, check)
	}
	now := time.Now()
	if end := cs.PeerCertificates[0].NotAfter; now.After(end) {
		now = end
	}
	if check == nil {
		return verifyNode(b, cs, now, nil)
	}
	return verifyNode(b, cs, now, func(id ID, chain []KeyID) error { return check(id, chain[:1]) })
}

func selfSigned(leaf *x509.Certificate) bool {
	return leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil
}

// verifyOwnKey accepts a node that lost its certificate, by its long-term key alone:
// check compares it with the member's.
func verifyOwnKey(b *Bundle, leaf *x509.Certificate, check PeerCheck) error {
	if b == nil {
		return errors.New("this node knows no roots yet")
	}
	id, err := leafID(leaf, b.td)
	if err != nil {
		return err
	}
	if _, err := parseP256(leaf.RawSubjectPublicKeyInfo); err != nil {
		return fmt.Errorf("certificate of %s: %w", id, err)
	}
	if !id.IsNode() {
		return fmt.Errorf("%s is no node", id)
	}
	return check(id, ChainKeys([]*x509.Certificate{leaf}))
}

var errNoCertificate = errors.New("the peer showed no certificate")

// PeerID returns the ID and the leaf that the peer of a connection made with one
// of these configurations has proven. On tacit-issue the leaf may have expired:
// there only its key counts, and only if it is the member's.
func PeerID(cs tls.ConnectionState) (ID, *x509.Certificate, error) {
	if !cs.HandshakeComplete || len(cs.PeerCertificates) == 0 {
		return ID{}, nil, errNoCertificate
	}
	id, err := certificateID(cs.PeerCertificates[0])
	return id, cs.PeerCertificates[0], err
}

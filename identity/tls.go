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
	ALPNLane  = "tacit-lane/1"  // a lane: both ends show node certificates
	ALPNEnrol = "tacit-enrol/1" // a new node with a token: only the authority shows one
	ALPNIssue = "tacit-issue/1" // renewal: both show one, the node's may have expired
	ALPNHere  = "tacit-here/1"  // nothing but the handshake, which proves that a node is at an address
)

// Source is where the certificates in use come from; they change at any time.
type Source interface {
	NodeSVID() *SVID
	Bundle() *Bundle
}

// PeerCheck is a further condition on a peer whose certificate verified, such
// as that it isn't revoked.
type PeerCheck func(id ID, leaf *x509.Certificate) error

// base is what all our connections have: TLS 1.3, no tickets, and Go's default
// key exchanges, hybrid ones included.
func base(alpn ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: alpn, SessionTicketsDisabled: true,
		DynamicRecordSizingDisabled: true} // a frame is a record, from the first on
}

// ServerTLS serves the lane port; the ALPN agreed on says what a client must show.
func ServerTLS(src Source, check PeerCheck) *tls.Config {
	outer := base(ALPNLane, ALPNEnrol, ALPNIssue, ALPNHere)
	outer.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := current(src)
		if err == nil && slices.Contains(hello.SupportedProtos, ALPNEnrol) {
			cert.Certificate = append(cert.Certificate, src.Bundle().roots[0].Raw) // a new node knows only its fingerprint
		}
		return cert, err
	}
	outer.ClientAuth = tls.RequestClientCert // who must show one is decided below, by ALPN
	outer.VerifyConnection = func(cs tls.ConnectionState) error {
		switch cs.NegotiatedProtocol {
		case ALPNEnrol:
			return verifyStranger(cs)
		case ALPNLane, ALPNHere:
			return verifyNode(src.Bundle(), cs, time.Now(), check)
		case ALPNIssue:
			return verifySleeper(src.Bundle(), cs, check)
		}
		return errors.New("no protocol of ours was offered")
	}
	return outer
}

// current is what to show in this handshake; src may have nothing yet.
func current(src Source) (*tls.Certificate, error) {
	svid, bundle := src.NodeSVID(), src.Bundle()
	if svid == nil || len(svid.Chain) == 0 || bundle == nil || len(bundle.roots) == 0 {
		return nil, errors.New("this node has no certificate yet; an authority must answer first")
	}
	cert := svid.TLS()
	return &cert, nil
}

// ClientTLS dials one node, exactly, with this node's certificate.
func ClientTLS(src Source, alpn string, expect ID, check PeerCheck) *tls.Config {
	c := clientBase(alpn)
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return current(src) }
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		return verifyExpected(src.Bundle(), cs, alpn, expect, check)
	}
	return c
}

// EnrolTLS dials a token's authority: its chain must end in the pinned root.
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

// clientBase leaves the check of the chain to VerifyConnection, which Go runs
// on every handshake: names in our certificates are no host names.
func clientBase(alpn string) *tls.Config {
	c := base(alpn)
	c.InsecureSkipVerify = true
	return c
}

// pinnedRoot takes the root from the end of what the authority sent; enrolment
// is the one place where it is sent, since the new node has only its fingerprint.
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
	return verifyNode(b, cs, time.Now(), func(id ID, leaf *x509.Certificate) error {
		if id != expect {
			return fmt.Errorf("the peer is %s, not %s", id, expect)
		}
		if check == nil {
			return nil
		}
		return check(id, leaf)
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
	return check(id, cs.PeerCertificates[0])
}

// verifyStranger: who enrols has no certificate. One that is shown all the
// same is refused, lest somebody take an unverified name from the connection.
func verifyStranger(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) > 0 {
		return fmt.Errorf("%s takes no certificate from a client", ALPNEnrol)
	}
	return nil
}

// verifySleeper accepts a certificate that has expired, by judging its chain at
// its own end: a node that slept past it recovers by its long-term key, which
// TLS has just proven. The handler of tacit-issue must compare that key with
// the member's record before it issues anything; check still refuses the revoked.
func verifySleeper(b *Bundle, cs tls.ConnectionState, check PeerCheck) error {
	if len(cs.PeerCertificates) == 0 {
		return errNoCertificate
	}
	now := time.Now()
	if end := cs.PeerCertificates[0].NotAfter; now.After(end) {
		now = end
	}
	return verifyNode(b, cs, now, check)
}

var errNoCertificate = errors.New("the peer showed no certificate")

// PeerID is who the other end of a connection made with one of the above
// configurations proved to be. On tacit-issue the leaf may have expired: there
// only its key counts, and only if it is the member's.
func PeerID(cs tls.ConnectionState) (ID, *x509.Certificate, error) {
	if !cs.HandshakeComplete || len(cs.PeerCertificates) == 0 {
		return ID{}, nil, errNoCertificate
	}
	id, err := certificateID(cs.PeerCertificates[0])
	return id, cs.PeerCertificates[0], err
}

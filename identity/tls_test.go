// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/identity"
)

// ends are two nodes of a mesh, and a token with which a third may enrol at the first.
type ends struct {
	*mesh
	server, client *source
	token          *identity.Token
}

func newEnds(t testing.TB) *ends {
	m := newMesh(t, "mesh.test")
	return &ends{m, &source{m.node("alpha"), m.Bundle()}, &source{m.node("beta"), m.Bundle()},
		&identity.Token{TrustDomain: "mesh.test", Authority: "alpha", Root: m.RootKey().ID()}}
}

func (e *ends) dial(alpn string, expect identity.Name) *tls.Config {
	return identity.ClientTLS(e.client, alpn, identity.NodeID("mesh.test", expect), nil)
}

func TestHandshakes(t *testing.T) {
	e := newEnds(t)
	for _, alpn := range []string{identity.ALPNLane, identity.ALPNIssue, identity.ALPNEnrol} {
		conf := e.dial(alpn, "alpha")
		if alpn == identity.ALPNEnrol {
			conf = identity.EnrolTLS(e.token)
		}
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(4) // ours has none; even so nothing is resumed
		server := identity.ServerTLS(e.server, nil)
		for range 2 {
			out := connect(t, server, conf)
			if out.clientErr != nil || out.serverErr != nil {
				t.Fatalf("%s: client %v, server %v", alpn, out.clientErr, out.serverErr)
			}
			cs := out.client
			if cs.Version != tls.VersionTLS13 || cs.DidResume || cs.CurveID != tls.X25519MLKEM768 || cs.NegotiatedProtocol != alpn {
				t.Errorf("%s: version %x, resumed %v, key exchange %s, protocol %s", alpn, cs.Version, cs.DidResume, cs.CurveID, cs.NegotiatedProtocol)
			}
			if id, leaf, err := identity.PeerID(cs); err != nil || id != e.server.svid.ID || leaf == nil {
				t.Errorf("%s: the server is %s, %v", alpn, id, err)
			}
			id, _, err := identity.PeerID(out.server)
			if alpn == identity.ALPNEnrol && err == nil || alpn != identity.ALPNEnrol && id != e.client.svid.ID {
				t.Errorf("%s: the client is %s, %v", alpn, id, err)
			}
		}
	}
}

// Each case changes one thing of a connection that works; text is part of the
// error at the end that refuses.
func TestRefusedByClient(t *testing.T) {
	other := newMesh(t, "mesh.test")
	for name, c := range map[string]struct {
		change func(*ends) (server, client *tls.Config)
		text   string
	}{
		"wrong node": {func(e *ends) (*tls.Config, *tls.Config) { return nil, e.dial(identity.ALPNLane, "gamma") },
			"the peer is spiffe://mesh.test/node/alpha, not spiffe://mesh.test/node/gamma"},
		"a service with the name": {func(e *ends) (*tls.Config, *tls.Config) {
			e.server.svid = e.service("alpha")
			return nil, nil
		}, "is no node"},
		"another mesh": {func(e *ends) (*tls.Config, *tls.Config) {
			e.server.svid = other.node("alpha")
			return nil, nil
		}, "unknown authority"},
		"expired": {func(e *ends) (*tls.Config, *tls.Config) {
			e.server.svid = e.nodeFor("alpha", -4*time.Minute, -time.Minute)
			return nil, nil
		}, "expired"},
		"expired at issue": {func(e *ends) (*tls.Config, *tls.Config) {
			e.server.svid = e.nodeFor("alpha", -4*time.Minute, -time.Minute)
			return nil, e.dial(identity.ALPNIssue, "alpha")
		}, "expired"},
		"revoked": {func(e *ends) (*tls.Config, *tls.Config) {
			return nil, identity.ClientTLS(e.client, identity.ALPNLane, e.server.svid.ID, revoked(e.server.svid))
		}, errRevoked.Error()},
		"a server without our protocols": {func(e *ends) (*tls.Config, *tls.Config) {
			conf := identity.ServerTLS(e.server, nil)
			conf.NextProtos, conf.VerifyConnection = nil, nil
			return conf, nil
		}, "doesn't speak"},
		"no roots known": {func(e *ends) (*tls.Config, *tls.Config) {
			e.client.bundle = nil
			return nil, nil
		}, "no roots"},
		"enrol: another CA": {func(e *ends) (*tls.Config, *tls.Config) {
			e.token.Root = other.RootKey().ID()
			return nil, identity.EnrolTLS(e.token)
		}, "not the mesh that the token is for"},
		"enrol: another authority": {func(e *ends) (*tls.Config, *tls.Config) {
			e.token.Authority = "gamma"
			return nil, identity.EnrolTLS(e.token)
		}, "not spiffe://mesh.test/node/gamma"},
		"enrol: another domain": {func(e *ends) (*tls.Config, *tls.Config) {
			e.token.TrustDomain = "other.test"
			return nil, identity.EnrolTLS(e.token)
		}, "not of trust domain"},
		"enrol: a root that somebody else signed": {func(e *ends) (*tls.Config, *tls.Config) {
			e.server.bundle = identity.NewBundle("mesh.test", sign(t, e.Root(), &x509.Certificate{Subject: e.Root().Subject},
				e.RootKey().Signer().Public(), newKey(t)))
			return nil, identity.EnrolTLS(e.token)
		}, "not the mesh that the token is for"},
		"enrol: the pinned root behind another's chain": {func(e *ends) (*tls.Config, *tls.Config) {
			e.server.svid, e.token.Root = other.node("alpha"), e.RootKey().ID()
			return nil, identity.EnrolTLS(e.token)
		}, "unknown authority"},
	} {
		if out := run(t, newEnds(t), c.change); out.clientErr == nil || !strings.Contains(out.clientErr.Error(), c.text) {
			t.Errorf("%s: %v, want %q", name, out.clientErr, c.text)
		}
	}
}

func TestRefusedByServer(t *testing.T) {
	other := newMesh(t, "mesh.test")
	for name, c := range map[string]struct {
		change func(*ends) (server, client *tls.Config)
		text   string
	}{
		"TLS 1.2": {func(e *ends) (*tls.Config, *tls.Config) {
			conf := e.dial(identity.ALPNLane, "alpha")
			conf.MinVersion, conf.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			return nil, conf
		}, "unsupported versions"},
		"no protocol": {func(e *ends) (*tls.Config, *tls.Config) { return nil, e.speaking() }, "no protocol of ours"},
		"protocols of others": {func(e *ends) (*tls.Config, *tls.Config) { return nil, e.speaking("h2", "http/1.1") },
			"unsupported application protocols"},
		"no certificate": {func(e *ends) (*tls.Config, *tls.Config) { return nil, e.showing(identity.ALPNLane, nil) }, "showed no certificate"},
		"no certificate at issue": {func(e *ends) (*tls.Config, *tls.Config) { return nil, e.showing(identity.ALPNIssue, nil) },
			"showed no certificate"},
		"a certificate at enrol": {func(e *ends) (*tls.Config, *tls.Config) {
			return nil, e.showing(identity.ALPNEnrol, e.client.svid)
		}, "takes no certificate"},
		"a service": {func(e *ends) (*tls.Config, *tls.Config) {
			return nil, e.showing(identity.ALPNLane, e.service("beta"))
		}, "is no node"},
		"a service at issue": {func(e *ends) (*tls.Config, *tls.Config) {
			return nil, e.showing(identity.ALPNIssue, e.service("beta"))
		}, "is no node"},
		"another mesh": {func(e *ends) (*tls.Config, *tls.Config) {
			return nil, e.showing(identity.ALPNLane, other.node("beta"))
		}, "unknown authority"},
		"another mesh's expired at issue": {func(e *ends) (*tls.Config, *tls.Config) {
			return nil, e.showing(identity.ALPNIssue, other.nodeFor("beta", -4*time.Minute, -time.Minute))
		}, "unknown authority"},
		"expired": {func(e *ends) (*tls.Config, *tls.Config) {
			return nil, e.showing(identity.ALPNLane, e.nodeFor("beta", -4*time.Minute, -time.Minute))
		}, "expired"},
		"not yet, at issue": {func(e *ends) (*tls.Config, *tls.Config) {
			return nil, e.showing(identity.ALPNIssue, e.nodeFor("beta", time.Minute, time.Hour))
		}, "not yet valid"},
		"revoked": {func(e *ends) (*tls.Config, *tls.Config) {
			return identity.ServerTLS(e.server, revoked(e.client.svid)), nil
		}, errRevoked.Error()},
		"revoked and expired, at issue": {func(e *ends) (*tls.Config, *tls.Config) {
			expired := e.nodeFor("beta", -4*time.Minute, -time.Minute)
			return identity.ServerTLS(e.server, revoked(expired)), e.showing(identity.ALPNIssue, expired)
		}, errRevoked.Error()},
		"its own word, on a lane": {func(e *ends) (*tls.Config, *tls.Config) {
			return identity.ServerTLS(e.server, member(e.client.svid)), e.showing(identity.ALPNLane, e.ownWord("beta", e.client.svid.Key))
		}, "expired"},
		"its own word, by another key": {func(e *ends) (*tls.Config, *tls.Config) {
			return identity.ServerTLS(e.server, member(e.client.svid)), e.showing(identity.ALPNIssue, e.ownWord("beta", newKey(t)))
		}, errNoMember.Error()},
		"its own word, as another node": {func(e *ends) (*tls.Config, *tls.Config) {
			return identity.ServerTLS(e.server, member(e.client.svid)), e.showing(identity.ALPNIssue, e.ownWord("gamma", e.client.svid.Key))
		}, errNoMember.Error()},
		"its own word, where nobody compares keys": {func(e *ends) (*tls.Config, *tls.Config) {
			return nil, e.showing(identity.ALPNIssue, e.ownWord("beta", e.client.svid.Key))
		}, "unknown authority"},
		"no certificate of its own yet": {func(e *ends) (*tls.Config, *tls.Config) {
			e.server.svid = nil
			return nil, nil
		}, "no certificate yet"},
		"no bundle yet": {func(e *ends) (*tls.Config, *tls.Config) {
			e.server.bundle = nil
			return nil, nil
		}, "no certificate yet"},
		"no roots of its own yet, at enrol": {func(e *ends) (*tls.Config, *tls.Config) {
			e.server.bundle = identity.NewBundle("mesh.test")
			return nil, identity.EnrolTLS(e.token)
		}, "no certificate yet"},
	} {
		out := run(t, newEnds(t), c.change)
		if out.serverErr == nil || !strings.Contains(out.serverErr.Error(), c.text) {
			t.Errorf("%s: %v, want %q", name, out.serverErr, c.text)
		}
		if out.clientErr == nil {
			t.Errorf("%s: the client got an answer", name)
		}
	}
}

// TestOwnWord: a node whose certificate was lost proves its long-term key where
// certificates are renewed.
func TestOwnWord(t *testing.T) {
	e := newEnds(t)
	out := connect(t, identity.ServerTLS(e.server, member(e.client.svid)), e.showing(identity.ALPNIssue, e.ownWord("beta", e.client.svid.Key)))
	if out.clientErr != nil || out.serverErr != nil {
		t.Fatalf("client %v, server %v", out.clientErr, out.serverErr)
	}
	if id, _, err := identity.PeerID(out.server); id != e.client.svid.ID {
		t.Errorf("the client is %s, %v", id, err)
	}
}

func (e *ends) ownWord(node identity.Name, key *identity.Key) *identity.SVID {
	s, err := identity.SelfSigned(identity.NodeID("mesh.test", node), key)
	must(e.t, err)
	return s
}

var errNoMember = errors.New("no member with this key")

// member is the check of a mesh with one member.
func member(s *identity.SVID) identity.PeerCheck {
	return func(id identity.ID, chain []identity.KeyID) error {
		if id != s.ID || chain[0] != s.Key.ID() {
			return errNoMember
		}
		return nil
	}
}

// run connects the ends as change left them; a nil configuration means the usual one.
func run(t *testing.T, e *ends, change func(*ends) (*tls.Config, *tls.Config)) outcome {
	t.Helper()
	server, client := change(e)
	if server == nil {
		server = identity.ServerTLS(e.server, nil)
	}
	if client == nil {
		client = e.dial(identity.ALPNLane, "alpha")
	}
	return connect(t, server, client)
}

var errRevoked = errors.New("the key is revoked")

func revoked(s *identity.SVID) identity.PeerCheck {
	return func(id identity.ID, chain []identity.KeyID) error {
		if id == s.ID && chain[0] == s.Key.ID() {
			return errRevoked
		}
		return nil
	}
}

// speaking is a client whose only fault is the protocols that it offers.
func (e *ends) speaking(protocols ...string) *tls.Config {
	conf := e.dial(identity.ALPNLane, "alpha")
	conf.NextProtos, conf.VerifyConnection = protocols, nil
	return conf
}

// showing is a client that shows any certificate, and trusts any server.
func (e *ends) showing(alpn string, s *identity.SVID) *tls.Config {
	conf := e.speaking(alpn)
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if s == nil {
			return &tls.Certificate{}, nil
		}
		cert := s.TLS()
		return &cert, nil
	}
	return conf
}

// A node whose certificate has expired is accepted for tacit-issue only, with its
// own key; the handler sees that key.
func TestExpiredNodeRecovers(t *testing.T) {
	e := newEnds(t)
	e.client.svid = e.nodeFor("beta", -4*time.Minute, -time.Minute)
	out := connect(t, identity.ServerTLS(e.server, nil), e.dial(identity.ALPNIssue, "alpha"))
	if out.serverErr != nil || out.clientErr != nil {
		t.Fatalf("issue: server %v, client %v", out.serverErr, out.clientErr)
	}
	id, leaf, err := identity.PeerID(out.server)
	must(t, err)
	key, err := identity.KeyIDOf(leaf.RawSubjectPublicKeyInfo)
	if err != nil || id != e.client.svid.ID || key != e.client.svid.Key.ID() {
		t.Errorf("the handler sees %s with key %s, %v", id, key, err)
	}
	// If the client offers the lane as well, the lane is negotiated and refused.
	conf := e.showing(identity.ALPNIssue, e.client.svid)
	conf.NextProtos = []string{identity.ALPNIssue, identity.ALPNLane}
	if out := connect(t, identity.ServerTLS(e.server, nil), conf); out.serverErr == nil {
		t.Error("an expired certificate was accepted for a lane")
	}
	// The chain without its key is refused.
	e.client.svid = &identity.SVID{ID: e.client.svid.ID, Chain: e.client.svid.Chain, Key: newKey(t)}
	if out := connect(t, identity.ServerTLS(e.server, nil), e.dial(identity.ALPNIssue, "alpha")); out.serverErr == nil {
		t.Error("a stolen chain was accepted")
	}
}

// A node whose certificate is by a revoked authority is accepted for tacit-issue only:
// its own key still counts.
func TestNodeOfRevokedAuthorityRecovers(t *testing.T) {
	e := newEnds(t)
	check := func(_ identity.ID, chain []identity.KeyID) error {
		if slices.Contains(chain, e.Key().ID()) {
			return errRevoked
		}
		return nil
	}
	for alpn, want := range map[string]error{identity.ALPNIssue: nil, identity.ALPNLane: errRevoked, identity.ALPNHere: errRevoked} {
		out := connect(t, identity.ServerTLS(e.server, check), e.dial(alpn, "alpha"))
		if !errors.Is(out.serverErr, want) {
			t.Errorf("%s: %v, want %v", alpn, out.serverErr, want)
		}
	}
}

// Each handshake uses the current certificates and roots.
func TestSourceIsReadEachTime(t *testing.T) {
	e := newEnds(t)
	server, client := identity.ServerTLS(e.server, nil), e.dial(identity.ALPNLane, "alpha")
	for range 2 {
		out := connect(t, server, client)
		if out.serverErr != nil || out.clientErr != nil {
			t.Fatalf("server %v, client %v", out.serverErr, out.clientErr)
		}
		if !out.client.PeerCertificates[0].Equal(e.server.svid.Chain[0]) || !out.server.PeerCertificates[0].Equal(e.client.svid.Chain[0]) {
			t.Error("an old certificate was shown")
		}
		next := newMesh(t, "mesh.test")
		e.server.svid, e.client.svid = next.node("alpha"), next.node("beta")
		e.server.bundle, e.client.bundle = next.Bundle(), next.Bundle()
	}
}

// SPDX-License-Identifier: Apache-2.0

package enrol_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
	"tacit/policy/ledger"
)

const domain = "mesh.test"

// source is a node's certificate and the roots that the node trusts.
type source struct {
	svid   *identity.SVID
	bundle *identity.Bundle
}

func (s source) NodeSVID() *identity.SVID { return s.svid }
func (s source) Bundle() *identity.Bundle { return s.bundle }

// mesh is one authority on node n1.
type mesh struct{ *identity.Authority }

func newMesh(t *testing.T) mesh {
	t.Helper()
	a, err := identity.CreateAuthority(domain, "n1", t.TempDir(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return mesh{a}
}

func newKey(t *testing.T) (*identity.Key, []byte) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, csr
}

func (m mesh) node(t *testing.T, name identity.Name) source {
	t.Helper()
	key, csr := newKey(t)
	chain, err := m.IssueNode(csr, name)
	if err != nil {
		t.Fatal(err)
	}
	return source{&identity.SVID{ID: identity.NodeID(domain, name), Chain: chain, Key: key}, m.Bundle()}
}

func (m mesh) token(t *testing.T) (*identity.Token, string) {
	t.Helper()
	text, err := identity.NewToken(identity.Token{
		Node: "n2", TrustDomain: domain, Authority: "n1", Root: m.Bundle().Fingerprint(),
		Addresses: []string{"192.0.2.1:7947"}, Expires: time.Now().Add(time.Minute),
	}, m.RootKey())
	if err != nil {
		t.Fatal(err)
	}
	token, err := identity.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	return token, text
}

// issuer answers as the test says, and records the requests.
type issuer struct {
	admit func(context.Context, enrol.Ask) (*enrol.Admission, error)
	issue func(node identity.Name, spki []byte, r enrol.Renewal) (*enrol.Issued, error)
}

func (o issuer) Admit(ctx context.Context, a enrol.Ask) (*enrol.Admission, error) {
	return o.admit(ctx, a)
}

func (o issuer) Issue(_ context.Context, node identity.Name, spki []byte, r enrol.Renewal) (*enrol.Issued, error) {
	return o.issue(node, spki, r)
}

// listen serves one connection as a lane port does, and returns its address and the
// server's result.
func (m mesh) listen(t *testing.T, ctx context.Context, o issuer) (addr string, served <-chan error) {
	t.Helper()
	conf := identity.ServerTLS(m.node(t, "n1"), nil)
	return accept(t, func(raw net.Conn) error {
		conn := tls.Server(raw, conf)
		if err := conn.HandshakeContext(ctx); err != nil {
			return errors.Join(err, raw.Close())
		}
		if conn.ConnectionState().NegotiatedProtocol == identity.ALPNEnrol {
			return enrol.ServeAdmission(ctx, conn, o)
		}
		return enrol.ServeIssue(ctx, conn, o)
	})
}

// accept calls serve with the first connection on a new loopback port.
func accept(t *testing.T, serve func(net.Conn) error) (addr string, served <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() {
		defer close(end)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		end <- serve(conn)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		for range end { // until the server has ended
		}
	})
	return l.Addr().String(), end
}

func TestAdmission(t *testing.T) {
	m := newMesh(t)
	token, text := m.token(t)
	_, csr := newKey(t)
	want := &enrol.Admission{
		Chain: []byte("chain"), Root: m.Root().Raw,
		Records: []ledger.Record{{Kind: ledger.KindRoot, Key: domain, Dot: ledger.Dot{Seq: 1}, Signer: []byte{1}, Signature: []byte{2}}},
	}
	var asked enrol.Ask
	addr, served := m.listen(t, t.Context(), issuer{admit: func(_ context.Context, a enrol.Ask) (*enrol.Admission, error) {
		asked = a
		return want, nil
	}})
	got, err := enrol.Enrol(t.Context(), token, enrol.Ask{Token: text, CSR: csr}, []string{unreachable(t), addr})
	if err := errors.Join(err, <-served); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if asked.Token != text || !bytes.Equal(asked.CSR, csr) {
		t.Errorf("the issuer was asked %+v", asked)
	}
}

func TestIssue(t *testing.T) {
	m := newMesh(t)
	n2 := m.node(t, "n2")
	for _, service := range []identity.Name{"", "db"} {
		key, csr := newKey(t)
		addr, served := m.listen(t, t.Context(), issuer{issue: func(node identity.Name, spki []byte, r enrol.Renewal) (*enrol.Issued, error) {
			if node != "n2" || !bytes.Equal(spki, n2.svid.Key.Public()) || r.Service != service {
				t.Errorf("the issuer was asked by %s for %q, its key %x", node, r.Service, spki)
			}
			issue, name := m.IssueNode, node
			if r.Service != "" {
				issue, name = m.IssueService, r.Service
			}
			chain, err := issue(r.CSR, name)
			return &enrol.Issued{Chain: identity.EncodeChain(chain)}, err
		}})
		conf := identity.ClientTLS(n2, identity.ALPNIssue, identity.NodeID(domain, "n1"), nil)
		out, err := enrol.Renew(t.Context(), netip.MustParseAddrPort(addr), conf, enrol.Renewal{Service: service, CSR: csr})
		if err := errors.Join(err, <-served); err != nil {
			t.Fatal(err)
		}
		chain, err := identity.DecodeChain(out.Chain)
		if err != nil {
			t.Fatal(err)
		}
		want := identity.NodeID(domain, "n2")
		if service != "" {
			want = identity.ServiceID(domain, service)
		}
		if id, err := m.Bundle().Verify(chain, time.Now()); err != nil || id != want {
			t.Errorf("issued %s, %v, want %s", id, err, want)
		}
		if !bytes.Equal(chain[0].RawSubjectPublicKeyInfo, key.Public()) {
			t.Error("the certificate is for another key")
		}
	}
}

// TestIssueNeedsACertificate: a request without a certificate doesn't reach the issuer.
func TestIssueNeedsACertificate(t *testing.T) {
	m := newMesh(t)
	addr, served := m.listen(t, t.Context(), issuer{issue: func(identity.Name, []byte, enrol.Renewal) (*enrol.Issued, error) {
		t.Error("the issuer was asked")
		return nil, errors.New("unexpected")
	}})
	conf := identity.ClientTLS(m.node(t, "n2"), identity.ALPNIssue, identity.NodeID(domain, "n1"), nil)
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	_, err := enrol.Renew(t.Context(), netip.MustParseAddrPort(addr), conf, enrol.Renewal{})
	if err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("the client's error: %v", err)
	}
	if err := <-served; err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("the server's error: %v", err)
	}
}

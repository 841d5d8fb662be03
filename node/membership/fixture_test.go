// SPDX-License-Identifier: Apache-2.0

package membership_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/node/config"
	"tacit/node/enrol"
	"tacit/node/health"
	"tacit/node/membership"
	"tacit/node/records"
	"tacit/node/store"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

const domain = "mesh.test"

// settings are of a node that isn't told yet how to become a member.
func settings(t *testing.T, name identity.Name) *config.Settled {
	t.Helper()
	return &config.Settled{Name: name, Config: config.Config{
		Paths: config.Paths{StateDir: t.TempDir()}, LanePort: 7947, Log: slog.New(slog.DiscardHandler),
		Membership: config.Membership{TrustDomain: domain, LeafTTL: time.Hour},
	}}
}

func openStore(t *testing.T, s *config.Settled) *store.Store {
	t.Helper()
	st, err := store.Open(s.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// node is a member with all that a daemon has of this package.
type node struct {
	*membership.Member
	settings *config.Settled
	store    *store.Store
	records  *records.Records
	board    *health.Board
	issuer   *membership.Issuer
}

// enter makes a node with these settings a member.
func enter(t *testing.T, s *config.Settled) node {
	t.Helper()
	n := node{settings: s, store: openStore(t, s), board: health.NewBoard()}
	m, l, err := membership.Enter(t.Context(), s, n.store)
	if err != nil {
		t.Fatal(err)
	}
	n.Member = m
	n.records, err = records.New(records.Config{Self: s.Name, Ledger: l, Store: n.store, Health: n.board, Log: s.Log, Changed: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	n.issuer = membership.NewIssuer(membership.IssuerConfig{Member: m, Self: s.Name, Records: n.records, Tokens: n.store, Log: s.Log})
	return n
}

// bootstrap creates a mesh of one node.
func bootstrap(t *testing.T, name identity.Name) node {
	t.Helper()
	s := settings(t, name)
	s.Bootstrap = true
	return enter(t, s)
}

// at announces the node's address.
func (n node) at(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	n.sign(t, n.Key, records.Change{Kind: ledger.KindNode, Key: string(n.settings.Name), Body: statement.Node{
		Node: n.settings.Name, Address: addr.Addr().String(), LanePort: addr.Port(), GossipPort: 7946, Version: "test"}})
}

func (n node) grant(t *testing.T, to, service identity.Name) {
	t.Helper()
	n.sign(t, n.Operator.Key(), records.Change{Kind: ledger.KindGrant, Key: string(to) + "/" + string(service), Body: statement.Grant{Node: to, Service: service}})
}

func (n node) revoke(t *testing.T, key identity.KeyID, of identity.Name) {
	t.Helper()
	n.sign(t, n.Operator.Key(), records.Change{Kind: ledger.KindRevocation, Key: key.String(), Body: statement.Revocation{Public: key, Node: of, Reason: "test"}})
}

func (n node) sign(t *testing.T, key *identity.Key, c records.Change) {
	t.Helper()
	if err := n.records.Sign(key, c); err != nil {
		t.Fatal(err)
	}
}

func (n node) tokens() membership.TokenMaker {
	return membership.TokenMaker{Member: n.Member, Self: n.settings.Name, Roll: n.records.View(), Records: n.records, Store: n.store}
}

func (n node) token(t *testing.T, r membership.TokenRequest) string {
	t.Helper()
	text, _, err := n.tokens().NewToken(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// source is what a member shows in handshakes.
type source struct{ *membership.Member }

func (s source) NodeSVID() *identity.SVID { return s.SVID }
func (s source) Bundle() *identity.Bundle { return s.Member.Bundle }

// serve answers enrolments and renewals as the node's lane port does, and
// announces its address.
func (n node) serve(t *testing.T, issuer enrol.Issuer) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				answer(context.Background(), tls.Server(raw, identity.ServerTLS(source{n.Member}, membership.CheckPeer(n.records.View()))), issuer)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		work.Wait()
	})
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	n.at(t, addr)
	return addr
}

func answer(ctx context.Context, conn *tls.Conn, issuer enrol.Issuer) {
	if conn.HandshakeContext(ctx) != nil {
		_ = conn.Close()
		return
	}
	if conn.ConnectionState().NegotiatedProtocol == identity.ALPNEnrol {
		_ = enrol.ServeAdmission(ctx, conn, issuer)
		return
	}
	_ = enrol.ServeIssue(ctx, conn, issuer)
}

// joining are the settings of a node that shall join with this token.
func joining(t *testing.T, name identity.Name, token string) *config.Settled {
	t.Helper()
	s := settings(t, name)
	s.Join, s.TokenFile = []string{"127.0.0.1"}, filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(s.TokenFile, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func newCSR(t *testing.T, key *identity.Key) []byte {
	t.Helper()
	csr, err := identity.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func newKey(t *testing.T) *identity.Key {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// admit makes another member without a connection, and returns its key.
func (n node) admit(t *testing.T, name identity.Name, services ...identity.Name) *identity.Key {
	t.Helper()
	key := newKey(t)
	text := n.token(t, membership.TokenRequest{Node: name, Services: services})
	if _, err := n.issuer.Admit(t.Context(), enrol.Ask{Token: text, CSR: newCSR(t, key)}); err != nil {
		t.Fatal(err)
	}
	return key
}

// morePeers knows authorities that don't answer before the real ones.
type morePeers struct{ membership.Roll }

func (m morePeers) Authorities() []identity.Name {
	return append([]identity.Name{"a1", "a2"}, m.Roll.Authorities()...)
}

// Node places a1 where nobody listens; nobody knows where a2 is.
func (m morePeers) Node(name identity.Name) (statement.Node, bool) {
	if name == "a1" {
		return statement.Node{Node: "a1", Address: "127.0.0.1", LanePort: 1}, true
	}
	return m.Roll.Node(name)
}

type noAuthorities struct{ membership.Roll }

func (noAuthorities) Authorities() []identity.Name { return nil }

func eventually(t *testing.T, f func() error) {
	t.Helper()
	testhost.Eventually(t, 10*time.Second, "certificates", f)
}

// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/policy"
	"tacit/tproxy/accept"
	"tacit/tproxy/stall"
)

const td = "mesh.test"

// mesh is an authority, for the certificates of its nodes.
type mesh struct {
	t    testing.TB
	auth *identity.Authority
}

func newMesh(t testing.TB) *mesh {
	t.Helper()
	auth, err := identity.CreateAuthority(td, "a", t.TempDir(), time.Hour)
	testhost.Must(t, err)
	return &mesh{t, auth}
}

func (m *mesh) svid(id identity.ID) *identity.SVID {
	m.t.Helper()
	key, err := identity.NewKey()
	testhost.Must(m.t, err)
	csr, err := identity.NewCSR(key)
	testhost.Must(m.t, err)
	issue := m.auth.IssueService
	if id.IsNode() {
		issue = m.auth.IssueNode
	}
	chain, err := issue(csr, id.Name())
	testhost.Must(m.t, err)
	return &identity.SVID{ID: id, Chain: chain, Key: key}
}

// host is one node: its lanes and its lane port. It admits each stream whose
// source is proven, and echoes it.
type host struct {
	*Set
	t        testing.TB
	mesh     *mesh
	node     *identity.SVID
	services map[identity.Name]*identity.SVID
	port     Peer
	served   sync.WaitGroup
}

func (m *mesh) host(name identity.Name, services ...identity.Name) *host {
	m.t.Helper()
	h := &host{t: m.t, mesh: m, node: m.svid(identity.NodeID(td, name)), services: map[identity.Name]*identity.SVID{}}
	for _, s := range services {
		h.services[s] = m.svid(identity.ServiceID(td, s))
	}
	h.Set = New(Config{Node: h.node.ID, Identities: h, Log: slog.New(slog.DiscardHandler), Blocks: new(Blocks), Accept: h.echo})
	ctx, cancel := context.WithCancel(context.Background())
	ln := h.listen()
	h.port = Peer{Node: name, Addr: netip.MustParseAddrPort(ln.Addr().String())}
	h.served.Go(func() { _ = accept.Loop(ctx, ln, func(conn net.Conn) { h.served.Go(func() { h.answer(ctx, conn) }) }) })
	m.t.Cleanup(func() {
		cancel()
		h.Abort()
		h.served.Wait()
		h.Wait()
	})
	return h
}

func (h *host) listen() net.Listener {
	h.t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	testhost.Must(h.t, err)
	return ln
}

func (h *host) answer(ctx context.Context, conn net.Conn) {
	c := tls.Server(stall.Watch(conn.(*net.TCPConn)), identity.ServerTLS(h, nil))
	if c.HandshakeContext(ctx) != nil {
		_ = conn.Close()
		return
	}
	h.Serve(ctx, c)
}

func (h *host) NodeSVID() *identity.SVID { return h.node }
func (h *host) Bundle() *identity.Bundle { return h.mesh.auth.Bundle() }

func (h *host) ServiceSVID(n identity.Name) (*identity.SVID, error) {
	if s := h.services[n]; s != nil {
		return s, nil
	}
	return nil, errors.New("no certificate yet")
}

func (h *host) echo(a *Arrival) {
	err := a.Proven()
	if err == nil {
		err = a.Prove()
	}
	if err != nil {
		a.Refuse(policy.ReasonOf(err, policy.ReasonDial))
		return
	}
	defer a.Close()
	for {
		b, n, err := a.Read()
		if errors.Is(err, io.EOF) {
			_ = a.CloseWrite()
		}
		if err != nil {
			return
		}
		_ = a.Write(b, n)
		h.cfg.Blocks.Put(b)
	}
}

// ask opens a stream from web, sends "hello" and FIN, and wants both back.
func (h *host) ask(to Peer, destination identity.Name) {
	h.t.Helper()
	rest := "hello"
	c, err := h.Open(context.Background(), to, Opening{Source: "web", Destination: destination, Port: 5432}, first(&rest))
	testhost.Must(h.t, err)
	defer c.Close()
	if b := new(Block); rest != "" {
		testhost.Must(h.t, c.Write(b, copy(b.Payload(), rest)))
	}
	testhost.Must(h.t, c.CloseWrite())
	var got []byte
	for {
		b, n, err := c.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		testhost.Must(h.t, err)
		got = append(got, b.Payload()[:n]...)
		h.cfg.Blocks.Put(b)
	}
	if string(got) != "hello" {
		h.t.Errorf("%s answered %q", destination, got)
	}
}

// first is for Open: it takes a client's first bytes.
func first(rest *string) func([]byte) int {
	return func(into []byte) int {
		n := copy(into, *rest)
		*rest = (*rest)[n:]
		return n
	}
}

// pair is web on node a, and db and cache on node b.
func pair(t testing.TB) (a, b *host) {
	t.Helper()
	testhost.VerifyNone(t)
	m := newMesh(t)
	return m.host("a", "web"), m.host("b", "db", "cache")
}

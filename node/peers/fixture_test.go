// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/node/config"
	"tacit/node/enrol"
	"tacit/node/health"
	"tacit/node/store"
	"tacit/policy/ledger/statement"
)

const domain = "mesh.test"

// mesh is an authority, and what the nodes' records say.
type mesh struct {
	*identity.Authority
	port uint16 // of all lane ports

	mu    sync.Mutex
	nodes map[identity.Name]statement.Node
	alive map[identity.Name]bool
	looks int // calls of Members
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	a, err := identity.CreateAuthority(domain, "n1", t.TempDir(), time.Hour)
	must(t, err)
	return &mesh{Authority: a, nodes: map[identity.Name]statement.Node{}, alive: map[identity.Name]bool{}}
}

func (m *mesh) Members() (out []statement.Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looks++
	for _, name := range []identity.Name{"n1", "n2", "n3"} {
		out = append(out, statement.Member{Node: name})
	}
	return out
}

func (m *mesh) Node(name identity.Name) (statement.Node, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	body, ok := m.nodes[name]
	return body, ok
}

func (m *mesh) up() map[identity.Name]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[identity.Name]bool{}
	for name, up := range m.alive {
		out[name] = up
	}
	return out
}

// says is the record of a node that answers.
func (m *mesh) says(name identity.Name, address string, also ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nodes[name] = statement.Node{Node: name, Address: address, Also: also, LanePort: m.port}
	m.alive[name] = true
}

// dies makes a node stop answering; its record stays.
func (m *mesh) dies(name identity.Name) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.alive[name] = false
}

// source is a node's certificate and the roots it trusts.
type source struct {
	svid   *identity.SVID
	bundle *identity.Bundle
}

func (s source) NodeSVID() *identity.SVID { return s.svid }
func (s source) Bundle() *identity.Bundle { return s.bundle }

func (m *mesh) certify(t *testing.T, name identity.Name) source {
	t.Helper()
	key, err := identity.NewKey()
	must(t, err)
	csr, err := identity.NewCSR(key)
	must(t, err)
	chain, err := m.IssueNode(csr, name)
	must(t, err)
	return source{&identity.SVID{ID: identity.NodeID(domain, name), Chain: chain, Key: key}, m.Bundle()}
}

// certifyService is a service's certificate where a node's should be.
func (m *mesh) certifyService(t *testing.T, name identity.Name) source {
	t.Helper()
	key, err := identity.NewKey()
	must(t, err)
	csr, err := identity.NewCSR(key)
	must(t, err)
	chain, err := m.IssueService(csr, name)
	must(t, err)
	return source{&identity.SVID{ID: identity.ServiceID(domain, name), Chain: chain, Key: key}, m.Bundle()}
}

// fakes are what a node has behind the lane port.
type fakes struct {
	served  chan *tls.Conn
	asked   chan string
	changed chan struct{}
	none    bool // no authority
}

func (f fakes) ServeLane(_ context.Context, conn *tls.Conn) { f.served <- conn }

func (f fakes) Admit(context.Context, enrol.Ask) (*enrol.Admission, error) {
	f.asked <- "admit"
	return &enrol.Admission{}, nil
}

func (f fakes) Issue(_ context.Context, node identity.Name, _ []byte, _ enrol.Renewal) (*enrol.Issued, error) {
	f.asked <- "issue to " + string(node)
	return &enrol.Issued{}, nil
}

// Issues: n1 is the authority.
func (f fakes) Issues() bool { return !f.none }

// node is one node's Peers, which run until the test ends.
type node struct {
	*Peers
	fakes
	port  *Port
	board *health.Board
	end   func()
}

// config is of a node whose lane port is at addr; the first one of a mesh
// chooses the port.
func (m *mesh) config(t *testing.T, name identity.Name, addr, dir string) (Config, fakes) {
	t.Helper()
	st, err := store.Open(dir)
	must(t, err)
	t.Cleanup(func() { _ = st.Close() })
	f := fakes{served: make(chan *tls.Conn, 512), asked: make(chan string, 8), changed: make(chan struct{}, 64), none: name != "n1"}
	return Config{
		Settings:   &config.Settled{Name: name, Addr: netip.MustParseAddr(addr), Config: config.Config{LanePort: m.port}},
		Identities: m.certify(t, name), Lanes: f, Issuer: f, Roll: m, Alive: m.up, Store: st,
		Health: health.NewBoard(), Log: slog.New(slog.DiscardHandler), Changed: func() { f.changed <- struct{}{} },
	}, f
}

func (m *mesh) start(t *testing.T, name identity.Name, addr string) node {
	t.Helper()
	conf, f := m.config(t, name, addr, t.TempDir())
	port, err := Open(t.Context(), conf.Settings, nil)
	must(t, err)
	m.port = port.number()
	p, err := New(conf, port)
	must(t, err)
	p.further.siblings = func(netip.Addr) ([]netip.Addr, error) { return nil, nil }
	n := node{Peers: p, fakes: f, port: port, board: conf.Health.(*health.Board)}
	n.end = run(t, p)
	return n
}

// run runs p until the test ends, or until end.
func run(t *testing.T, p *Peers) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return end
}

// call completes a handshake with n at addr, as the node that src is.
func (n node) call(t *testing.T, src source, alpn string, addr netip.Addr) (*tls.Conn, error) {
	t.Helper()
	conf := identity.ClientTLS(src, alpn, n.conf.Identities.NodeSVID().ID, nil)
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: conf}
	conn, err := d.DialContext(t.Context(), "tcp", netip.AddrPortFrom(addr, n.Peers.port.Port()).String())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*tls.Conn), nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	testhost.Eventually(t, 10*time.Second, what, func() error {
		if !f() {
			return errors.New("not yet")
		}
		return nil
	})
}

// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tacit/identity"
	"tacit/policy"
)

const td = "mesh.test"

// mesh is an authority and what its nodes hold.
type mesh struct {
	t    testing.TB
	dir  string
	auth *identity.Authority
}

func newMesh(t testing.TB) *mesh {
	t.Helper()
	dir := t.TempDir()
	auth, err := identity.CreateAuthority(td, "a", dir, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &mesh{t, dir, auth}
}

// longer is the same authority, whose certificates live two hours.
func (m *mesh) longer() *mesh {
	m.t.Helper()
	auth, err := identity.LoadAuthority(m.dir, 2*time.Hour)
	if err != nil {
		m.t.Fatal(err)
	}
	return &mesh{m.t, m.dir, auth}
}

func (m *mesh) svid(id identity.ID) *identity.SVID {
	m.t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		m.t.Fatal(err)
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		m.t.Fatal(err)
	}
	issue := m.auth.IssueService
	if id.IsNode() {
		issue = m.auth.IssueNode
	}
	chain, err := issue(csr, id.Name())
	if err != nil {
		m.t.Fatal(err)
	}
	return &identity.SVID{ID: id, Chain: chain, Key: key}
}

// host is one node: a proxy, its lane port and its capture port, and a router
// that answers what the test says.
type host struct {
	*Proxy
	t      testing.TB
	mesh   *mesh
	name   identity.Name
	lane   netip.AddrPort
	front  string
	cancel context.CancelFunc
	served sync.WaitGroup

	node   atomic.Pointer[identity.SVID]
	bundle *identity.Bundle
	table  atomic.Pointer[policy.Table]

	mu       sync.Mutex
	services map[identity.Name]*identity.SVID
	grants   map[[2]identity.Name]bool
	programs map[identity.Name]string
	origin   Origin
	target   Target
	who, how error // of Identify, of Pick
	revoked  bool
	ended    []Flow
}

var allow = policy.NewTable(policy.Allow, nil)

func (m *mesh) host(name identity.Name, laneAddr string, services ...identity.Name) *host {
	m.t.Helper()
	h := &host{t: m.t, mesh: m, name: name, bundle: m.auth.Bundle(), services: map[identity.Name]*identity.SVID{},
		grants: map[[2]identity.Name]bool{}, programs: map[identity.Name]string{}}
	h.node.Store(m.svid(identity.NodeID(td, name)))
	h.table.Store(allow)
	for _, s := range services {
		h.services[s] = m.svid(identity.ServiceID(td, s))
	}
	h.Proxy = New(Config{Node: identity.NodeID(td, name), Router: h, Identities: h, Check: h.check,
		Log: slog.New(slog.DiscardHandler), OnEnd: h.end})
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(context.Background())
	h.serveLanes(ctx, laneAddr)
	h.serveCaptured(ctx)
	m.t.Cleanup(h.shut)
	return h
}

func (h *host) listen(addr string) net.Listener {
	h.t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		h.t.Fatal(err)
	}
	return ln
}

func (h *host) serveLanes(ctx context.Context, addr string) {
	ln := h.listen(addr)
	h.lane = netip.MustParseAddrPort(ln.Addr().String())
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	h.served.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			h.served.Go(func() {
				c := tls.Server(conn, identity.ServerTLS(h, h.check))
				if c.HandshakeContext(ctx) != nil {
					_ = conn.Close()
					return
				}
				h.ServeLane(ctx, c)
			})
		}
	})
}

func (h *host) serveCaptured(ctx context.Context) {
	ln := h.listen("127.0.0.1:0")
	h.front = ln.Addr().String()
	h.served.Go(func() { _ = h.Serve(ctx, ln) })
}

func (h *host) shut() {
	h.cancel()
	_ = h.Close()
	h.served.Wait()
}

func (h *host) end(f Flow) { h.with(func() { h.ended = append(h.ended, f) }) }

func (h *host) with(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

func (h *host) check(identity.ID, *x509.Certificate) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.revoked {
		return errors.New("revoked")
	}
	return nil
}

func (h *host) NodeSVID() *identity.SVID { return h.node.Load() }
func (h *host) Bundle() *identity.Bundle { return h.bundle }

func (h *host) ServiceSVID(n identity.Name) (*identity.SVID, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.services[n]; s != nil {
		return s, nil
	}
	return nil, errors.New("no certificate yet")
}

func (h *host) Identify(c *net.TCPConn) (Origin, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.origin
	o.Client = netip.MustParseAddrPort(c.RemoteAddr().String())
	return o, h.who
}

func (h *host) Pick(Origin) (Target, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.target, h.how
}

func (h *host) Decide(s, d identity.Name) policy.Decision { return h.table.Load().Decide(s, d) }

func (h *host) Granted(node, service identity.Name) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.grants[[2]identity.Name{node, service}]
}

func (h *host) Dial(ctx context.Context, in Inbound) (*net.TCPConn, error) {
	var addr string
	h.with(func() { addr = h.programs[in.Destination] })
	conn, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// lastFlow waits for the host's n-th flow record.
func (h *host) lastFlow(n int) Flow {
	h.t.Helper()
	var f Flow
	eventually(h.t, "flow record on "+string(h.name), func() (ok bool) {
		h.with(func() {
			if ok = len(h.ended) >= n; ok {
				f = h.ended[n-1]
			}
		})
		return ok
	})
	return f
}

// pair is web on node a, calling db on node b.
func pair(t testing.TB, program func(*net.TCPConn)) (a, b *host) {
	t.Helper()
	leaks(t)
	m := newMesh(t)
	a, b = m.host("a", "127.0.0.1:0", "web"), m.host("b", "127.0.0.1:0", "db")
	addr := serve(t, program)
	a.with(func() {
		a.origin = Origin{Source: "web", Destination: "db", Port: 5432}
		a.target = Target{Node: "b", Lane: b.lane, Port: 5432, Instance: "db-1"}
	})
	for _, h := range []*host{a, b} {
		h.with(func() {
			h.programs["db"] = addr
			h.grants[[2]identity.Name{"a", "web"}] = true
			h.grants[[2]identity.Name{"b", "db"}] = true
		})
	}
	return a, b
}

// local is web calling db on one node.
func local(t testing.TB, program func(*net.TCPConn)) *host {
	t.Helper()
	leaks(t)
	a := newMesh(t).host("a", "127.0.0.1:0")
	addr := serve(t, program)
	a.with(func() {
		a.programs["db"] = addr
		a.origin = Origin{Source: "web", Destination: "db", Port: 5432}
		a.target = Target{Node: "a", Port: 5432, Local: true}
	})
	return a
}

// serve runs a program and returns its address.
func serve(t testing.TB, program func(*net.TCPConn)) string {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				program(c)
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// call connects as the captured program does.
func (h *host) call() *net.TCPConn {
	h.t.Helper()
	c, err := net.Dial("tcp", h.front)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(15 * time.Second))
	return c.(*net.TCPConn)
}

// wantRefused connects, writes, and expects RST, which may come so early that
// connect reports it.
func (h *host) wantRefused(first []byte) {
	h.t.Helper()
	c, err := net.Dial("tcp", h.front)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(8 * time.Second))
	_, _ = c.Write(first)
	wantReset(h.t, c.(*net.TCPConn))
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(8 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
		<-tick.C
	}
}

// leaks fails a test that leaves goroutines or descriptors behind. Call it
// before anything else.
func leaks(t testing.TB) {
	t.Helper()
	if _, ok := t.(*testing.B); ok {
		return // several worlds live side by side there
	}
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = ln.Close() // the runtime's own descriptors exist from here on
	}
	goroutines, fds := runtime.NumGoroutine(), descriptors(t)
	t.Cleanup(func() {
		eventually(t, "goroutines and descriptors to go back", func() bool {
			return runtime.NumGoroutine() <= goroutines && descriptors(t) <= fds
		})
	})
}

func descriptors(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// wantReset reads to the end and expects RST.
func wantReset(t testing.TB, c *net.TCPConn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read ended with %v, want a reset", err)
	}
}

// echo doesn't splice: Go keeps the pipes, which look like leaked descriptors.
func echo(c *net.TCPConn) {
	_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	_ = c.CloseWrite()
}

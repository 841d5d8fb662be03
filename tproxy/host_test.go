// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/accept"
	"tacit/tproxy/lane"
	"tacit/tproxy/record"
	"tacit/tproxy/socket"
)

const td = "mesh.test"

// mesh is an authority, for the certificates of its nodes.
type mesh struct {
	t    testing.TB
	dir  string
	auth *identity.Authority

	threads int // of each host; 0: as by default
}

func newMesh(t testing.TB) *mesh {
	t.Helper()
	dir := t.TempDir()
	auth, err := identity.CreateAuthority(td, "a", dir, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &mesh{t: t, dir: dir, auth: auth}
}

// longer is the same authority, whose certificates live two hours.
func (m *mesh) longer() *mesh {
	m.t.Helper()
	auth, err := identity.LoadAuthority(m.dir, 2*time.Hour)
	if err != nil {
		m.t.Fatal(err)
	}
	return &mesh{t: m.t, dir: m.dir, auth: auth}
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
// whose answers the test sets.
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
	others   []Target // further targets, which Pick chooses in order when target was tried
	picks    int
	results  []Result
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
	var err error
	h.Proxy, err = New(Config{Node: identity.NodeID(td, name), Router: h, Identities: h, Check: h.check,
		Log: slog.New(slog.NewTextHandler(m.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})), OnEnd: h.end, Threads: m.threads,
		Limits: lane.Limits{IdleTimeout: 90 * time.Second}})
	if err != nil {
		m.t.Fatal(err)
	}
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(context.Background())
	h.serveLanes(ctx, laneAddr)
	h.serveCaptured(ctx)
	m.t.Cleanup(h.shut)
	return h
}

func (h *host) listen(addr string) *net.TCPListener {
	h.t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		h.t.Fatal(err)
	}
	return ln.(*net.TCPListener)
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
				c, err := record.Server(conn, identity.ServerTLS(h, h.check))
				if err != nil || c.HandshakeContext(ctx) != nil {
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
	inline(h.t, ln)
	h.front = ln.Addr().String()
	front, err := accept.NewTCP(ln)
	if err != nil {
		h.t.Fatal(err)
	}
	h.served.Go(func() { _ = h.Serve(ctx, front) })
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

func (h *host) check(identity.ID, []identity.KeyID) error {
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

func (h *host) Identify(fd int) (Origin, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.origin
	var err error
	o.Client, err = socket.Remote(fd)
	return o, cmp.Or(h.who, err)
}

func (h *host) Pick(o Origin, tried []Target) (Target, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := append([]Target{h.target}, h.others...)
	t := all[len(tried)%len(all)]
	t.Service = cmp.Or(t.Service, o.Destination)
	t.Others, t.Retry = len(tried)+1 < len(all), h.target.Retry
	h.picks++
	return t, h.how
}

func (h *host) Report(_ Target, how Result) { h.with(func() { h.results = append(h.results, how) }) }

func (h *host) Decide(s, d identity.Name) policy.Decision { return h.table.Load().Decide(s, d) }

func (h *host) Granted(node, service identity.Name) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.grants[[2]identity.Name{node, service}]
}

func (h *host) Dial(_ context.Context, in Inbound) (Dialled, error) {
	var addr string
	h.with(func() { addr = h.programs[in.Destination] })
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Dialled{FD: -1}, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
	to := netip.MustParseAddrPort(addr)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil && err != unix.EINPROGRESS {
		return Dialled{FD: -1}, errors.Join(err, unix.Close(fd))
	}
	return Dialled{FD: fd}, nil
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
	return newMesh(t).pair(program)
}

func (m *mesh) pair(program func(*net.TCPConn)) (a, b *host) {
	m.t.Helper()
	a, b = m.host("a", "127.0.0.1:0", "web"), m.host("b", "127.0.0.1:0", "db")
	addr := serve(m.t, program)
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

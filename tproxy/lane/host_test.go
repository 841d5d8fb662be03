// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/policy"
	"tacit/tproxy/accept"
	"tacit/tproxy/lane/credit"
	"tacit/tproxy/lane/message"
	"tacit/tproxy/loop"
	"tacit/tproxy/record"
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

// host is one node: an event loop, its lanes and its lane port. It admits each stream
// whose source is proven, and echoes it.
type host struct {
	*Set
	t      testing.TB
	mesh   *mesh
	node   *identity.SVID
	loop   *Loop
	events *loop.Loop
	port   Peer
	served sync.WaitGroup

	mu       sync.Mutex
	services map[identity.Name]*identity.SVID
}

// host makes a node. Its lanes have the limits and the handler of streams of c.
func (m *mesh) host(c Config, name identity.Name, services ...identity.Name) *host {
	m.t.Helper()
	h := &host{t: m.t, mesh: m, node: m.svid(identity.NodeID(td, name)), services: map[identity.Name]*identity.SVID{}}
	for _, s := range services {
		h.services[s] = m.svid(identity.ServiceID(td, s))
	}
	var err error
	h.events, err = loop.New(slog.New(slog.DiscardHandler))
	testhost.Must(m.t, err)
	h.loop = NewLoop(h.events)
	c.Node, c.Identities, c.Log, c.Loops = h.node.ID, h, slog.New(slog.DiscardHandler), []*Loop{h.loop}
	c.Budget = credit.NewBudget(64 << 20)
	if c.Share == nil {
		c.Share = func() int { return math.MaxInt }
	}
	if c.Accept == nil {
		c.Accept = accepting(func() User { return &echo{} })
	}
	h.Set = New(c)
	ctx, cancel := context.WithCancel(context.Background())
	ln := listen(m.t)
	h.port = Peer{Node: name, Addr: netip.MustParseAddrPort(ln.Addr().String())}
	h.served.Go(func() { _ = accept.Loop(ctx, ln, func(conn net.Conn) { h.served.Go(func() { h.answer(ctx, conn) }) }) })
	m.t.Cleanup(func() {
		cancel()
		h.Abort()
		h.served.Wait()
		h.Wait()
		h.events.Close()
	})
	return h
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	testhost.Must(t, err)
	return ln
}

func (h *host) answer(ctx context.Context, conn net.Conn) {
	c, err := record.Server(conn, identity.ServerTLS(h, nil))
	if err != nil || c.HandshakeContext(ctx) != nil {
		_ = conn.Close()
		return
	}
	h.Serve(ctx, c)
}

func (h *host) NodeSVID() *identity.SVID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.node
}
func (h *host) Bundle() *identity.Bundle { return h.mesh.auth.Bundle() }

func (h *host) ServiceSVID(n identity.Name) (*identity.SVID, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.services[n]; s != nil {
		return s, nil
	}
	return nil, errors.New("no certificate yet")
}

// renew gives a service another certificate for another key.
func (h *host) renew(n identity.Name) {
	s := h.mesh.svid(identity.ServiceID(td, n))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.services[n] = s
}

// on calls f on the loop, and waits for its end.
func (h *host) on(f func()) {
	done := make(chan struct{})
	if h.events.Do(func() { defer close(done); f() }) {
		<-done
	}
}

// one is the only lane.
func (h *host) one() *lane {
	h.t.Helper()
	all := h.all()
	if len(all) != 1 {
		h.t.Fatalf("%d lanes, want one", len(all))
	}
	return all[0]
}

// lanes waits until the node has n lanes.
func (h *host) lanes(n int) {
	h.t.Helper()
	testhost.Eventually(h.t, 10*time.Second, fmt.Sprintf("%d lanes", n), func() error {
		if got := len(h.List()); got != n {
			return fmt.Errorf("%d lanes: %+v", got, h.List())
		}
		return nil
	})
}

// accepting admits the streams whose source is proven, and gives each a user.
func accepting(user func() User) func(*Arrival) {
	return func(a *Arrival) {
		err := a.Proven()
		if err == nil {
			err = a.Prove()
		}
		if err != nil {
			a.Refuse(policy.ReasonOf(err, policy.ReasonDial))
			return
		}
		u := user()
		a.Loop().Do(func() { a.Attach(u) })
	}
}

// echo sends back what comes.
type echo struct {
	s    *Stream
	owed []byte
	fin  bool
}

func (e *echo) Opened(s *Stream) { e.s = s }

func (e *echo) Deliver(parts [][]byte) {
	for _, p := range parts {
		e.owed = append(e.owed, p...)
		e.s.Took(len(p))
	}
	e.Room()
}

func (e *echo) End() {
	e.fin = true
	e.Room()
}

func (e *echo) Lost(*policy.Refusal) {}

func (e *echo) Room() {
	if e.owed = push(e.s, e.owed); len(e.owed) == 0 && e.fin {
		e.s.Fin()
	}
}

// push sends what there is room for, and returns the rest.
func push(s *Stream, b []byte) []byte {
	for len(b) > 0 {
		n := 0
		for _, a := range s.Areas(true) {
			n += copy(a, b[n:])
		}
		if n == 0 {
			break
		}
		s.Commit(n)
		b = b[n:]
	}
	return b
}

// caller is the opener's end of a stream. It sends first at once, and FIN behind it if
// ends.
type caller struct {
	h     *host
	rest  []byte
	ends  bool
	mu    sync.Mutex // guards what follows
	s     *Stream
	got   []byte
	end   bool
	lost  *policy.Refusal
	calls []string
}

func (c *caller) note(call string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call)
}

func (c *caller) Opened(s *Stream) {
	c.note("opened")
	c.mu.Lock()
	c.s = s
	c.mu.Unlock()
	c.Room()
}

func (c *caller) Room() {
	if c.rest = push(c.s, c.rest); len(c.rest) == 0 && c.ends {
		c.s.Fin()
	}
}

func (c *caller) Deliver(parts [][]byte) {
	n := 0
	c.mu.Lock()
	for _, p := range parts {
		c.got = append(c.got, p...)
		n += len(p)
	}
	c.mu.Unlock()
	c.s.Took(n)
}

func (c *caller) End() {
	c.note("end")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = true
}

func (c *caller) Lost(why *policy.Refusal) {
	c.note("lost")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = why
}

// await waits until the stream has got to where it should be.
func (c *caller) await(what string, reached func() bool) {
	c.h.t.Helper()
	testhost.Eventually(c.h.t, 10*time.Second, what, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !reached() {
			return fmt.Errorf("got %d bytes, end %v, lost %v, calls %q", len(c.got), c.end, c.lost, c.calls)
		}
		return nil
	})
}

// send sends more.
func (c *caller) send(text string) {
	c.h.on(func() {
		c.rest = append(c.rest, text...)
		c.Room()
	})
}

// why is why the stream was lost.
func (c *caller) why() policy.Reason {
	c.h.t.Helper()
	c.await("it is lost", func() bool { return c.lost != nil })
	return c.lost.Reason
}

// call opens a stream from web.
func (h *host) call(to Peer, destination identity.Name, text string, ends bool) (*caller, error) {
	c := &caller{h: h, rest: []byte(text), ends: ends}
	_, err := h.Open(context.Background(), h.loop, to, message.Opening{Source: "web", Destination: destination, Port: 5432}, c)
	return c, err
}

// ask opens a stream from web, sends "hello" and FIN, and wants both back.
func (h *host) ask(to Peer, destination identity.Name) {
	h.t.Helper()
	c, err := h.call(to, destination, "hello", true)
	testhost.Must(h.t, err)
	c.await("the answer of "+string(destination), func() bool { return c.end && string(c.got) == "hello" })
}

// held opens a stream and returns it with one byte carried both ways.
func (h *host) held(to Peer, destination identity.Name) *caller {
	h.t.Helper()
	c, err := h.call(to, destination, "x", false)
	testhost.Must(h.t, err)
	c.await("the echo", func() bool { return string(c.got) == "x" })
	return c
}

// pair is web on node a, and db and cache on node b.
func pair(t testing.TB) (a, b *host) {
	t.Helper()
	testhost.VerifyNone(t)
	m := newMesh(t)
	return m.host(Config{}, "a", "web"), m.host(Config{}, "b", "db", "cache")
}

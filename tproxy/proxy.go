// SPDX-License-Identifier: Apache-2.0

// Package tproxy is the transparent proxy. It accepts captured connections,
// carries each as a stream over a lane (mutual TLS 1.3 between two nodes) and
// dials the program at the other end; bytes, FIN and RST arrive as over one TCP
// connection. It must not know how a connection was captured, how policy is
// stored, or where instances come from: it asks its Router.
package tproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/accept"
)

// Origin says who made a captured connection, and to what.
type Origin struct {
	Source, Destination identity.Name
	Port                uint16 // that the caller connected to
	Client              netip.AddrPort
	OriginalDst         netip.AddrPort
}

// Target is the instance that a connection is carried to.
type Target struct {
	Node     identity.Name
	Lane     netip.AddrPort // address of the node's lane port
	Port     uint16         // of the instance
	Instance string         // at most 255 bytes
	Local    bool           // on this node: no lane is used
}

// Inbound is a connection for a program of this node.
type Inbound struct {
	Source, Destination identity.Name
	Port                uint16
	Instance            string
	Node                identity.Name // of the caller; "" for a caller on this node
	Client              netip.AddrPort
}

// Router answers the proxy's questions. All methods are called from many
// goroutines at once. If an error is a *policy.Refusal, its reason goes to the
// log, the flow record and the other node.
type Router interface {
	// Identify says who made an accepted connection; it must not read from it.
	Identify(*net.TCPConn) (Origin, error)
	// Pick chooses an instance.
	Pick(Origin) (Target, error)
	// Decide is the verdict of this node's current policy.
	Decide(source, destination identity.Name) policy.Decision
	// Granted says whether a live grant lets node run service.
	Granted(node, service identity.Name) bool
	// Dial connects to the program of this node that is to serve in.
	Dial(ctx context.Context, in Inbound) (*net.TCPConn, error)
}

// Identities are the certificates in use; they can change at any time.
type Identities interface {
	identity.Source
	// ServiceSVID is the certificate that proves a service of this node on lanes.
	ServiceSVID(identity.Name) (*identity.SVID, error)
}

// Config is what a proxy needs. A limit of zero means its default.
type Config struct {
	Node       identity.ID // this node
	Router     Router
	Identities Identities
	Check      identity.PeerCheck // further condition on a peer's node certificate; may be nil
	Log        *slog.Logger
	OnEnd      func(Flow) // called once for every connection, refused ones too; must not block; may be nil

	IdleLanes   int           // warm lanes kept per peer; default 64
	IdleTimeout time.Duration // how long a warm lane is kept; default 90 s. The peer keeps its end twice as long.
	Dials       int           // lanes being dialled at once per peer; default 16
	PeerLanes   int           // lanes accepted from one peer; default 12,000
}

const (
	dialTimeout  = 5 * time.Second         // for TCP and TLS of a lane, for the answer to OPEN, for the program to accept
	resetTimeout = time.Second             // for a peer to answer RESET; then the lane is aborted
	expiryGrace  = 5 * time.Second         // from the end of a lane's last proven node certificate to the lane's end
	silenceLimit = 3500 * time.Millisecond // without an acknowledgement; together with upkeepPeriod under 5 s
	upkeepPeriod = 500 * time.Millisecond
)

// Proxy carries connections. Make it with New, end it with Close.
type Proxy struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc
	lanes  *pools
	far    carrier // opens streams on the lanes, for captured connections
	blocks blocks
	tick   atomic.Uint64  // counts rounds of upkeep from 1: a coarse clock
	work   sync.WaitGroup // goroutines that call into the proxy or were started by it
	live   sync.WaitGroup // streams

	mu      sync.Mutex
	closed  bool
	streams map[*stream]struct{}
}

// New starts a proxy. It accepts nothing before Serve or ServeLane is called.
func New(cfg Config) *Proxy {
	cfg.IdleLanes = orDefault(cfg.IdleLanes, 64)
	cfg.IdleTimeout = orDefault(cfg.IdleTimeout, 90*time.Second)
	cfg.Dials = orDefault(cfg.Dials, 16)
	cfg.PeerLanes = orDefault(cfg.PeerLanes, 12_000)
	if cfg.OnEnd == nil {
		cfg.OnEnd = func(Flow) {}
	}
	p := &Proxy{cfg: cfg, streams: map[*stream]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.lanes = newPools(&p.cfg, &p.blocks)
	p.far = p.lanes
	p.tick.Store(1)
	p.work.Go(p.upkeep)
	return p
}

func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// Serve accepts captured connections until ctx ends or the proxy is closed, and
// closes ln. Live streams go on until they end or Close is called.
func (p *Proxy) Serve(ctx context.Context, ln net.Listener) error {
	if !p.enter() {
		return errors.Join(net.ErrClosed, ln.Close())
	}
	defer p.work.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	return accept.Loop(ctx, ln, p.accepted)
}

func (p *Proxy) accepted(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok || !p.enter() {
		_ = conn.Close()
		return
	}
	go func() {
		defer p.work.Done()
		p.captured(tcp)
	}()
}

// enter counts a goroutine that Close has to wait for; false once the proxy is
// closed.
func (p *Proxy) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.work.Add(1)
	return true
}

// CloseLanes aborts every lane with a node; their streams end with the reason
// "revoked".
func (p *Proxy) CloseLanes(node identity.Name) {
	for _, l := range p.lanes.all() {
		if l.peer.Name() == node {
			l.abort(policy.ReasonRevoked)
		}
	}
}

// Close cuts every stream (reason "drain"), closes lanes and listeners, and
// returns when all goroutines have ended.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	for _, s := range p.all() {
		s.stop(policy.ReasonDrain)
	}
	timer := time.AfterFunc(2*resetTimeout, p.lanes.shut)
	p.live.Wait()
	timer.Stop()
	p.lanes.shut()
	p.work.Wait()
	return nil
}

// ServeLane serves one accepted connection with ALPN tacit-lane/1 whose
// handshake is done, until it ends. When ctx ends, the lane takes no further
// stream; the live one goes on until it ends or Close is called.
func (p *Proxy) ServeLane(ctx context.Context, conn *tls.Conn) {
	if !p.enter() {
		_ = conn.Close()
		return
	}
	defer p.work.Done()
	l, err := p.lanes.accept(conn)
	if err != nil {
		p.cfg.Log.Warn("lane refused", "peer", conn.RemoteAddr(), "err", err)
		_ = conn.Close()
		return
	}
	defer context.AfterFunc(ctx, l.retire)()
	err = p.serve(l)
	p.lanes.drop(l)
	p.cfg.Log.Debug("lane ended", "peer", l.peer, "err", err)
}

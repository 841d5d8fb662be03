// SPDX-License-Identifier: Apache-2.0

// Package tproxy is the transparent proxy. It accepts captured connections,
// carries each as a stream to another node (package lane) and dials the program
// at the other end; bytes, FIN and RST arrive as over one TCP connection. It must
// not know how a connection was captured, how policy is stored, or where
// instances come from, but asks its Router; nor what goes over a lane.
package tproxy

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/accept"
	"tacit/tproxy/headroom"
	"tacit/tproxy/lane"
	"tacit/tproxy/lane/credit"
	"tacit/tproxy/lane/message"
	"tacit/tproxy/socket"
)

// Origin says who made a connection that came in here, and to what.
type Origin struct {
	Source, Destination identity.Name
	Subset              identity.Name // of the destination that the caller connected to; "": to all of it
	Port                uint16        // that the caller connected to
	Client              netip.AddrPort
	OriginalDst         netip.AddrPort
}

// Target is the instance that a connection is carried to.
type Target struct {
	Service  identity.Name // the origin's destination, or one that stands in for it
	Node     identity.Name
	Lane     netip.AddrPort // address of the node's lane port
	Port     uint16         // of the instance
	Instance string         // at most 255 bytes
	Local    bool           // this node reaches it by itself: no lane is used
	Others   bool           // an instance that wasn't tried is left
	Retry    Retry
}

// same says whether two targets are one instance.
func (t Target) same(u Target) bool {
	return t.Node == u.Node && t.Instance == u.Instance && t.Port == u.Port
}

func (t Target) peer() lane.Peer { return lane.Peer{Node: t.Node, Addr: t.Lane} }

// Retry says when a service's connection may be carried to another instance.
type Retry string

// The ways to retry.
const (
	RetryUnanswered Retry = "unanswered" // until the first byte of an answer; the zero value means this, too
	RetryConnect    Retry = "connect"    // while no program can have got a byte of it
	RetryNever      Retry = "never"
)

// Result is what became of a connection to an instance.
type Result int

// The results. Each picked target gets Failed or Ended once; Answered before.
const (
	Answered Result = iota // the first byte of an answer came
	Failed                 // it was refused or lost before an answer
	Ended
)

// Inbound is a connection for a program of this node.
type Inbound struct {
	Source, Destination identity.Name
	Port                uint16
	Instance            string
	Node                identity.Name // of the caller; "" for a caller on this node
	Owner               identity.Name // for a caller on this node, the node whose instance it is
	Client              netip.AddrPort
}

// Router answers the proxy's questions. All methods are called from many
// goroutines at once. If an error is a *policy.Refusal, its reason goes to the
// log, the flow record and the other node.
type Router interface {
	// Identify is that of the Entry of captured connections.
	Identify(fd int) (Origin, error)
	// Pick chooses an instance, one of those that were tried already only if no
	// other is left. It may be of another service that the source may call.
	Pick(o Origin, tried []Target) (Target, error)
	// Report says what became of a connection to a target of Pick.
	Report(Target, Result)
	// Decide is the verdict of this node's current policy.
	Decide(source, destination identity.Name) policy.Decision
	// Granted says whether a live grant lets node run service.
	Granted(node, service identity.Name) bool
	// Dial begins to connect to what is to serve in: a program of this node, or an
	// instance outside of the mesh.
	Dial(ctx context.Context, in Inbound) (Dialled, error)
}

// Dialled is a connection that was begun: a non-blocking socket on which connect() was
// called, and what must be written to it first.
type Dialled struct {
	FD    int
	First []byte
}

// Config is what a proxy needs.
type Config struct {
	Node       identity.ID // this node
	Router     Router
	Identities lane.Identities
	Check      identity.PeerCheck // further condition on certificates of peers and their services; may be nil
	Log        *slog.Logger
	OnEnd      func(Flow) // called once for every connection, refused ones too; must not block; may be nil
	Headroom   *headroom.Headroom
	// Stuck is told, several times a second, which loops are stuck; nil: none. It may be nil.
	Stuck func(error)

	Threads int // event loops; default: one for every four processors

	lane.Limits
}

// windowBudget bounds what the streams of a node can make it hold, beyond 64 KiB each.
const windowBudget = 64 << 20

// Proxy carries connections. Make it with New, end it with Close.
type Proxy struct {
	cfg     Config
	ctx     context.Context
	cancel  context.CancelFunc
	threads []*thread
	dealt   atomic.Uint32
	lanes   *lane.Set
	open    opener         // lanes.Open
	work    sync.WaitGroup // goroutines that call into the proxy or were started by it
	live    sync.WaitGroup // streams
	stalls  atomic.Uint64

	mu      sync.Mutex
	closed  bool
	streams map[*stream]struct{}
}

type opener func(context.Context, *lane.Loop, lane.Peer, message.Opening, lane.User) (*lane.Stream, error)

// New starts a proxy. It accepts nothing before Serve or ServeLane is called.
func New(cfg Config) (*Proxy, error) {
	if cfg.OnEnd == nil {
		cfg.OnEnd = func(Flow) {}
	}
	if cfg.Stuck == nil {
		cfg.Stuck = func(error) {}
	}
	p := &Proxy{cfg: cfg, streams: map[*stream]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	var loops []*lane.Loop
	for range cmp.Or(cfg.Threads, max(1, runtime.GOMAXPROCS(0)/4)) {
		t, err := newThread(cfg.Log)
		if err != nil {
			p.closeThreads()
			return nil, err
		}
		p.threads, loops = append(p.threads, t), append(loops, t.Loop)
	}
	p.lanes = lane.New(lane.Config{Node: cfg.Node, Identities: cfg.Identities, Check: cfg.Check, Log: cfg.Log,
		Loops: loops, Budget: credit.NewBudget(windowBudget), Accept: p.inbound, Dialling: headroom.Control(cfg.Headroom.Lane), Share: cfg.Headroom.Share, Limits: cfg.Limits})
	p.open = p.lanes.Open
	p.work.Go(p.upkeep)
	return p, nil
}

func (p *Proxy) nextThread() *thread {
	return p.threads[int(p.dealt.Add(1))%len(p.threads)]
}

func (p *Proxy) threadOf(l *lane.Loop) *thread {
	i := slices.IndexFunc(p.threads, func(t *thread) bool { return t.Loop == l })
	return p.threads[i]
}

func (p *Proxy) closeThreads() {
	for _, t := range p.threads {
		t.loop.Close()
	}
}

// upkeep keeps the lanes in order, and watches over the loops.
func (p *Proxy) upkeep() {
	tick := time.NewTicker(lane.UpkeepPeriod)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case now := <-tick.C:
			p.lanes.Upkeep(now)
			p.watchdog(now)
		}
	}
}

// watchdog tells of loops that are stuck.
func (p *Proxy) watchdog(now time.Time) {
	var all error
	for _, t := range p.threads {
		news, err := t.watchdog(now)
		if news {
			p.stalls.Add(1)
			p.cfg.Log.Error("watchdog", "err", err)
		}
		all = errors.Join(all, err)
	}
	p.cfg.Stuck(all)
}

// Stalls is how often an event loop was stuck since the start. Nothing that a connection
// or a lane does may stop a loop, so it should be 0.
func (p *Proxy) Stalls() uint64 { return p.stalls.Load() }

// Serve accepts captured connections until ctx ends or the proxy is closed, and
// closes ln. Live streams go on until they end or Close is called.
func (p *Proxy) Serve(ctx context.Context, ln accept.Listener) error {
	return p.ServeEntry(ctx, ln, capture{p.cfg.Router})
}

// ServeEntry is Serve for connections that come in at an entry.
func (p *Proxy) ServeEntry(ctx context.Context, ln accept.Listener, entry Entry) error {
	if !p.enter() {
		return errors.Join(net.ErrClosed, ln.Close())
	}
	defer p.work.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	return accept.Batch(ctx, ln, func(fd int) { p.accepted(fd, entry) })
}

func (p *Proxy) accepted(fd int, entry Entry) {
	if !p.enter() {
		socket.New(fd).Reset()
		return
	}
	go func() {
		defer p.work.Done()
		p.captured(fd, entry)
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
func (p *Proxy) CloseLanes(node identity.Name) { p.lanes.Revoke(node) }

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
	p.live.Wait()
	p.lanes.Abort()
	p.work.Wait()
	p.lanes.Wait()
	p.closeThreads()
	return nil
}

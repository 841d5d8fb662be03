// SPDX-License-Identifier: Apache-2.0

// Package gossip maintains the pool of nodes: it detects which are alive and
// carries payloads to all of them. Only this room imports memberlist. It must not
// parse payloads, and nothing that it reports may grant a permission: every member
// can lie about others in it.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"tacit/identity"
	"tacit/node/gossip/wire"
)

// ErrClosed is returned by every call on a pool that has been closed.
var ErrClosed = errors.New("the gossip pool is closed")

// Delegate is the pool's owner. The pool calls its methods from several
// goroutines, some of them before Start returns; they must not call the pool's
// Leave or Close.
type Delegate interface {
	// State returns the full state, for an exchange with another node.
	State() []byte
	// Merge takes a broadcast or another node's State, and may keep the slice. It
	// returns how much of it no honest member sends: a member that goes on with
	// that is cut off. What a busy node can't take is dropped, and arrives again
	// with the next exchange.
	Merge(from identity.Name, payload []byte) (forged int)
	// Admit returns an error if a node may not be a member. It is called with
	// memberlist's lock held and must neither block nor call the pool.
	Admit(name identity.Name, addr netip.AddrPort) error
	// Changed is called after Members has changed; calls are coalesced.
	Changed()
}

// Config is who this node is, and who the others are.
type Config struct {
	Name       identity.Name
	Bind       netip.Addr // this node's address, which is also advertised; never unspecified
	Port       uint16     // UDP and TCP; 0: a free one (see Pool.Addr)
	Mesh       string     // the mesh's name
	Key        *identity.Key
	Identities identity.Source
	// Peer knows the members that aren't revoked, and Seeds where members may be.
	// They are asked for each packet and each attempt, and must not block.
	Peer     func(identity.Name) (wire.Peer, bool)
	Seeds    func() []Seed
	Delegate Delegate
	// Cut is told when a member that floods this node is cut off, and with nil
	// when it is heard again.
	Cut func(member identity.Name, why error)
	Log *slog.Logger // nil: nothing is logged
}

// Pool is this node's membership in the mesh. All methods are safe for
// concurrent use.
type Pool struct {
	membership
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	wire    *wire.Wire
	inbox   *inbox
	large   *places
	spread  *spread
	changed chan struct{} // capacity 1: a membership change to report
	healing chan struct{} // capacity 1: a member may have to be contacted
	busy    chan struct{} // attempts that are running

	seeking sync.Mutex // guards tried
	tried   map[Seed]*attempts

	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
	life   sync.Mutex // serialises Retire, Leave and Close
	halt
}

// halt is how far this node's end has come.
type halt struct{ retired, left, closed atomic.Bool }

// membership is who is alive, by memberlist.
type membership struct {
	addr  netip.AddrPort
	net   *transport
	list  *memberlist.Memberlist
	table *table
}

// Start opens the sockets and starts gossip. It finds the other members by itself.
func Start(cfg Config) (*Pool, error) { return start(cfg, time.Now) }

// start is Start with another clock, by which members are lost and sought; timers and
// memberlist follow the real one.
func start(cfg Config, now func() time.Time) (*Pool, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	p := &Pool{cfg: cfg, log: cfg.Log, now: now, changed: make(chan struct{}, 1), healing: make(chan struct{}, 1), busy: make(chan struct{}, healAtOnce),
		inbox: newInbox(), large: newPlaces(), tried: map[Seed]*attempts{}}
	p.table = newTable(now)
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if err := p.open(); err != nil {
		p.cancel()
		return nil, err
	}
	p.wait.Go(p.deliver)
	p.wait.Go(p.report)
	p.wait.Go(p.heal)
	p.spread.start(p)
	return p, nil
}

func (c Config) check() error {
	switch {
	case c.Name == "":
		return errors.New("gossip needs the node's name")
	case c.Delegate == nil || c.Key == nil || c.Identities == nil || c.Peer == nil || c.Seeds == nil || c.Cut == nil:
		return errors.New("gossip needs a delegate, a key, certificates and the members")
	case !c.Bind.IsValid() || c.Bind.IsUnspecified() || c.Bind.Zone() != "":
		return fmt.Errorf("gossip can't bind to %q: give one address of this node, without a zone", c.Bind)
	}
	return nil
}

// open creates the sockets and the memberlist on them.
func (p *Pool) open() error {
	at := netip.AddrPortFrom(p.cfg.Bind.Unmap(), p.cfg.Port)
	p.net = newTransport(p.ctx)
	p.spread = newSpread(p.table, p.cfg.Name)
	var err error
	p.wire, err = wire.Open(wire.Config{Self: p.cfg.Name, Addr: at, Mesh: p.cfg.Mesh, Key: p.cfg.Key, Identities: p.cfg.Identities,
		Peer: p.cfg.Peer, Packet: p.packet, Stream: p.received, Cut: p.cfg.Cut, Log: p.log}, p.table.knows)
	if err != nil {
		return fmt.Errorf("gossip on %s: %w", at, err)
	}
	p.net.wire, p.addr = p.wire, p.wire.Addr()
	if p.list, err = memberlist.Create(p.listConfig()); err != nil {
		_ = p.wire.Close()
		return fmt.Errorf("gossip on %s: %w", p.addr, err)
	}
	p.wire.Run()
	return nil
}

// packet takes one of another member's; it must not block for long.
func (p *Pool) packet(from identity.Name, at netip.AddrPort, kind wire.Kind, body []byte) {
	switch kind {
	case kindMembership:
		if !soundPacket(body) {
			p.wire.Forged(from, 1)
			return
		}
		p.net.packet(at, body)
	case kindPayload:
		if payload, fresh := p.spread.receive(from, body); fresh && !p.inbox.put(from, payload) {
			p.log.Warn("gossip payload dropped: merging is too slow; the next exchange will carry it", "node", from)
		}
	}
}

// listConfig returns memberlist's settings. Payloads are sent at once, see spread;
// the gossip interval only delays membership changes and retransmissions, and each
// tick wakes an idle node. A node that stops answering is suspected after one probe
// round and declared dead SuspicionMult * max(1, log10 n) * ProbeInterval = 1.5 s
// later, or twice that while no second node confirms the suspicion: within 5 s. A
// live node has that long to refute.
func (p *Pool) listConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name, c.Transport = string(p.cfg.Name), p.net
	c.BindAddr, c.BindPort = p.addr.Addr().String(), int(p.addr.Port())
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.RequireNodeNames = true
	c.EnableCompression = false // one parser fewer
	c.GossipInterval, c.GossipNodes = 500*time.Millisecond, 4
	c.ProbeInterval, c.ProbeTimeout = 500*time.Millisecond, 200*time.Millisecond
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 3, 2
	c.PushPullInterval = 0 // see heal
	c.GossipToTheDeadTime = 10 * time.Second
	c.DeadNodeReclaimTime = time.Second
	c.UDPBufferSize = packetSize - wire.Overhead(p.cfg.Name)
	d := callbacks{p}
	c.Delegate, c.Events, c.Alive, c.Conflict = d, d, d, d
	c.Logger = newLogger(p.log)
	return c
}

// Addr is the address and port that this node advertises.
func (p *Pool) Addr() netip.AddrPort { return p.addr }

// Members lists the known nodes by name, with this one, and dead ones for a day. Who
// isn't a member any more is not alive.
func (p *Pool) Members() []Member {
	list := p.table.list()
	for i, m := range list {
		if m.Alive && m.Name != p.cfg.Name {
			_, list[i].Alive = p.cfg.Peer(m.Name)
		}
	}
	return list
}

// Refused counts packets and streams that proved no member as their sender, or were
// more than it may send.
func (p *Pool) Refused() uint64 { return p.wire.Refused() }

// Leaving reports whether a node has said that it is about to stop.
func (p *Pool) Leaving(node identity.Name) bool { return p.table.leaving(node) }

// Retire announces that this node is about to stop, and waits until a member was
// sent that, or timeout has passed. The others go on to count it as alive.
func (p *Pool) Retire(timeout time.Duration) error {
	p.life.Lock()
	defer p.life.Unlock()
	if p.closed.Load() {
		return ErrClosed
	}
	p.retired.Store(true)
	if err := p.list.UpdateNode(timeout); err != nil {
		return fmt.Errorf("announcing the end of this node: %w", err)
	}
	return nil
}

// Leave announces that this node leaves, and waits until the message is sent or
// timeout has passed. Call Close afterwards.
func (p *Pool) Leave(timeout time.Duration) error {
	p.life.Lock()
	defer p.life.Unlock()
	if p.closed.Load() {
		return ErrClosed
	}
	p.left.Store(true)
	if err := p.list.Leave(timeout); err != nil {
		return fmt.Errorf("leaving the gossip pool: %w", err)
	}
	return nil
}

// Close ends gossip at once; without Leave, the other nodes detect it within
// seconds. It is safe to call twice.
func (p *Pool) Close() error {
	p.life.Lock()
	defer p.life.Unlock()
	if p.closed.Swap(true) {
		return nil
	}
	p.cancel()
	err := p.list.Shutdown()
	p.wait.Wait()
	return err
}

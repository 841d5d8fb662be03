// SPDX-License-Identifier: Apache-2.0

// Package gossip keeps the pool of nodes: who is alive, and payloads carried to
// all of them. It is the only room that knows memberlist. It must not read
// payloads, and nothing that it reports may ever grant a permission: any holder
// of the gossip key can lie here.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"tacit/identity"
)

// KeySize is the length of a gossip key in bytes (AES-256-GCM).
const KeySize = 32

var (
	// ErrClosed is returned by every call on a pool that has been closed.
	ErrClosed = errors.New("the gossip pool is closed")
	// ErrWrongKey means that the other side encrypts with another gossip key.
	ErrWrongKey = errors.New("the gossip keys differ: fetch the current key over the lane port, or enrol this node again")
	// ErrNotAdmitted means that the other side answered nothing: it belongs to
	// another mesh, or is no tacit gossip port.
	ErrNotAdmitted = errors.New("the other side closed the connection: is it this mesh's gossip port?")
)

// Delegate is what the pool asks of its owner. Its methods are called from
// several goroutines, some of them before Start returns, and must not call
// the pool's Join, Leave or Close.
type Delegate interface {
	// State returns everything, for a push/pull with another node.
	State() []byte
	// Merge takes a broadcast or another node's State. The slice is the
	// callee's. One call at a time, from a bounded queue: what doesn't fit is
	// dropped and comes again with the next push/pull.
	Merge(payload []byte)
	// Admit says whether a node may be a member. It is called with
	// memberlist's lock held and must neither block nor call the pool.
	Admit(name identity.Name, addr netip.AddrPort) error
	// Changed tells that Members would answer differently; calls are
	// coalesced.
	Changed()
}

// Config says who this node is and where it gossips.
type Config struct {
	Name     identity.Name
	Bind     netip.Addr // this node's own address, which is also advertised; never unspecified
	Port     uint16     // UDP and TCP; 0 takes a free one (see Pool.Addr)
	Key      []byte     // KeySize bytes, shared by the mesh
	Label    string     // the mesh's name, authenticated in every packet; at most 255 bytes
	Delegate Delegate
	Log      *slog.Logger // nil: nothing is logged
}

// Pool is this node's membership in the mesh. All methods are safe for
// concurrent use.
type Pool struct {
	cfg     Config
	log     *slog.Logger
	addr    netip.AddrPort
	net     *transport
	keys    *memberlist.Keyring
	list    *memberlist.Memberlist
	table   *table
	inbox   *inbox
	spread  *spread
	changed chan struct{} // capacity 1: a membership change to report
	healing chan struct{} // capacity 1: somebody may have to be called

	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
	life   sync.Mutex // guards left and closed, and serialises Leave and Close
	left   atomic.Bool
	closed atomic.Bool
}

// Start opens the sockets and begins to gossip, alone until Join succeeds or
// another node joins this one.
func Start(cfg Config) (*Pool, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	p := &Pool{cfg: cfg, log: cfg.Log, changed: make(chan struct{}, 1), healing: make(chan struct{}, 1), table: newTable(), inbox: newInbox()}
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
	case c.Delegate == nil:
		return errors.New("gossip needs a delegate")
	case len(c.Key) != KeySize:
		return fmt.Errorf("the gossip key has %d bytes, not %d: fetch it again over the lane port", len(c.Key), KeySize)
	case len(c.Label) > memberlist.LabelMaxSize:
		return fmt.Errorf("the gossip label is longer than %d bytes", memberlist.LabelMaxSize)
	case !c.Bind.IsValid() || c.Bind.IsUnspecified() || c.Bind.Zone() != "":
		return fmt.Errorf("gossip can't bind to %q: give one address of this node, without a zone", c.Bind)
	}
	return nil
}

// open makes the sockets and the member list on them.
func (p *Pool) open() error {
	var err error
	if p.keys, err = memberlist.NewKeyring(nil, slices.Clone(p.cfg.Key)); err != nil {
		return fmt.Errorf("gossip key: %w", err)
	}
	p.net, err = listen(netip.AddrPortFrom(p.cfg.Bind.Unmap(), p.cfg.Port), p.cfg.Label, p.table.knows)
	if err != nil {
		return fmt.Errorf("gossip on %s: %w", netip.AddrPortFrom(p.cfg.Bind, p.cfg.Port), err)
	}
	p.addr = p.net.addr
	p.spread = newSpread(p.table, p.cfg.Label)
	if p.list, err = memberlist.Create(p.listConfig()); err != nil {
		_ = p.net.Shutdown()
		return fmt.Errorf("gossip on %s: %w", p.addr, err)
	}
	return nil
}

// listConfig is the tuning. Payloads are sent at once, see spread; the gossip
// interval only delays news of members and repeats of lost packets, and each
// tick wakes an idle node. A node that falls silent is suspected after one
// probe round and declared dead SuspicionMult * max(1, log10 n) * ProbeInterval
// = 1.5 s later, or twice that while no second node confirms the suspicion, so
// within 5 s; a live one has that long to refute.
func (p *Pool) listConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.Transport = string(p.cfg.Name), p.cfg.Label, p.net
	c.BindAddr, c.BindPort = p.addr.Addr().String(), int(p.addr.Port())
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.Keyring, c.GossipVerifyIncoming, c.GossipVerifyOutgoing = p.keys, true, true
	c.RequireNodeNames = true
	c.EnableCompression = false // signatures don't compress; one parser less
	c.GossipInterval, c.GossipNodes = 500*time.Millisecond, 4
	c.ProbeInterval, c.ProbeTimeout = 500*time.Millisecond, 200*time.Millisecond
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 3, 2
	c.PushPullInterval = 15 * time.Second
	c.GossipToTheDeadTime = 10 * time.Second
	c.DeadNodeReclaimTime = time.Second
	c.UDPBufferSize = packetSize
	d := callbacks{p}
	c.Delegate, c.Events, c.Alive, c.Conflict = d, d, d, d
	c.Logger = newLogger(p.log)
	return c
}

// Addr is the address and port that this node advertises.
func (p *Pool) Addr() netip.AddrPort { return p.addr }

// Members lists every node known, this one included and dead ones too (for a
// day), by name.
func (p *Pool) Members() []Member { return p.table.list() }

// SetKeys makes primary the key that encrypts, and lets others still decrypt
// (a rotation: everybody learns the new key as other, then as primary, then
// the old one goes).
func (p *Pool) SetKeys(primary []byte, others ...[]byte) error {
	for _, k := range append([][]byte{primary}, others...) {
		if len(k) != KeySize {
			return fmt.Errorf("a gossip key has %d bytes, not %d", len(k), KeySize)
		}
		if err := p.keys.AddKey(slices.Clone(k)); err != nil {
			return fmt.Errorf("gossip key: %w", err)
		}
	}
	if err := p.keys.UseKey(primary); err != nil {
		return fmt.Errorf("gossip key: %w", err)
	}
	for _, k := range p.keys.GetKeys() {
		keep := func(o []byte) bool { return slices.Equal(o, k) }
		if !keep(primary) && !slices.ContainsFunc(others, keep) {
			_ = p.keys.RemoveKey(k)
		}
	}
	return nil
}

// Leave tells the others that this node goes away on purpose, and waits until
// the message is out or timeout has passed. Close comes next.
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

// Close ends gossip at once; without Leave the others notice within seconds.
// It is safe to call twice.
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

// joinError says what went wrong in the operator's words.
func joinError(addr string, err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "could decrypt"):
		return fmt.Errorf("join %s: %w", addr, ErrWrongKey)
	case strings.Contains(text, "EOF"), strings.Contains(text, "reset by peer"):
		return fmt.Errorf("join %s: %w", addr, ErrNotAdmitted)
	}
	if _, why, ok := strings.Cut(text, "failed to join "); ok {
		_, text, _ = strings.Cut(why, ": ") // after the address
	}
	return fmt.Errorf("join %s: %s", addr, strings.Join(strings.Fields(text), " "))
}

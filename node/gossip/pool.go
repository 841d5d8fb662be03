// SPDX-License-Identifier: Apache-2.0

// Package gossip maintains the pool of nodes: it detects which are alive and
// carries payloads to all of them. Only this room imports memberlist. It must not
// parse payloads, and nothing that it reports may grant a permission: every holder
// of the gossip key can lie in it.
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
	// ErrWrongKey means that the other node encrypts with another gossip key.
	ErrWrongKey = errors.New("the gossip keys differ: fetch the current key over the lane port, or enrol this node again")
	// ErrNotAdmitted means that the other side closed without an answer: it
	// belongs to another mesh, or is no tacit gossip port.
	ErrNotAdmitted = errors.New("the other side closed the connection: is it this mesh's gossip port?")
)

// Delegate is the pool's owner. The pool calls its methods from several
// goroutines, some of them before Start returns; they must not call the pool's
// Join, Leave or Close.
type Delegate interface {
	// State returns the full state, for a push/pull with another node.
	State() []byte
	// Merge takes a broadcast or another node's State, and may keep the slice.
	// Calls are serialised, from a bounded queue: payloads that don't fit are
	// dropped, and arrive again with the next push/pull.
	Merge(payload []byte)
	// Admit returns an error if a node may not be a member. It is called with
	// memberlist's lock held and must neither block nor call the pool.
	Admit(name identity.Name, addr netip.AddrPort) error
	// Changed is called after Members has changed; calls are coalesced.
	Changed()
}

// Config is this node's name, address and key for gossip.
type Config struct {
	Name     identity.Name
	Bind     netip.Addr // this node's address, which is also advertised; never unspecified
	Port     uint16     // UDP and TCP; 0: a free one (see Pool.Addr)
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
	healing chan struct{} // capacity 1: a member may have to be contacted

	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
	life   sync.Mutex // guards left and closed, and serialises Leave and Close
	left   atomic.Bool
	closed atomic.Bool
}

// Start opens the sockets and starts gossip. The node is alone until Join succeeds
// or another node joins it.
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

// open creates the sockets and the memberlist on them.
func (p *Pool) open() error {
	var err error
	if p.keys, err = memberlist.NewKeyring(nil, slices.Clone(p.cfg.Key)); err != nil {
		return fmt.Errorf("gossip key: %w", err)
	}
	p.net, err = listen(netip.AddrPortFrom(p.cfg.Bind.Unmap(), p.cfg.Port), p.cfg.Label, p.table.knows, p.log)
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

// listConfig returns memberlist's settings. Payloads are sent at once, see spread;
// the gossip interval only delays membership changes and retransmissions, and each
// tick wakes an idle node. A node that stops answering is suspected after one probe
// round and declared dead SuspicionMult * max(1, log10 n) * ProbeInterval = 1.5 s
// later, or twice that while no second node confirms the suspicion: within 5 s. A
// live node has that long to refute.
func (p *Pool) listConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.Transport = string(p.cfg.Name), p.cfg.Label, p.net
	c.BindAddr, c.BindPort = p.addr.Addr().String(), int(p.addr.Port())
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.Keyring, c.GossipVerifyIncoming, c.GossipVerifyOutgoing = p.keys, true, true
	c.RequireNodeNames = true
	c.EnableCompression = false // signatures don't compress; one parser fewer
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

// Members lists the known nodes by name, with this one, and dead ones for a day.
func (p *Pool) Members() []Member { return p.table.list() }

// SetKeys encrypts with primary, and decrypts with primary and others. To rotate a
// key, every node first gets the new key among others, then as primary; then the
// old key is removed.
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

// joinError turns memberlist's error into one for the operator.
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

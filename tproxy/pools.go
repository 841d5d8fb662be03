// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"tacit/identity"
	"tacit/policy"
)

// pools holds all lanes. It is the carrier: a lane carries one stream at a time
// and is kept warm for the next.
type pools struct {
	cfg    *Config
	blocks *blocks

	mu       sync.Mutex
	closed   bool
	peers    map[identity.Name]*pool
	lanes    map[*lane]struct{}
	accepted map[identity.Name]int
}

func newPools(cfg *Config, blocks *blocks) *pools {
	return &pools{cfg: cfg, blocks: blocks, peers: map[identity.Name]*pool{}, lanes: map[*lane]struct{}{},
		accepted: map[identity.Name]int{}}
}

// carry opens a stream. If a warm lane breaks before the peer can have accepted
// the stream, as after a restart of the peer, it tries a new lane once.
func (ps *pools) carry(ctx context.Context, t Target, o opening, firstBytes func([]byte) int) (endpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	q := &request{opening: o, firstBytes: firstBytes, first: ps.blocks.get()}
	defer func() { ps.blocks.put(q.first) }()
	l, err := ps.take(ctx, t, &q.opening)
	if err != nil {
		return nil, err
	}
	c, err := l.open(q)
	if err != nil && l.streams > 1 && l.broke(err) {
		ps.drop(l)
		if l, err = ps.dial(ctx, t); err != nil {
			return nil, err
		}
		c, err = l.open(q)
	}
	if err == nil {
		return c, nil
	}
	return nil, ps.failed(l, c, err)
}

// failed releases a lane whose peer refused the stream, or on which it wasn't
// opened.
func (ps *pools) failed(l *lane, c *laneEnd, err error) error {
	switch {
	case c == nil:
		ps.back(l)
	default:
		c.reset(policy.ReasonOf(err, policy.ReasonLane))
		c.drain()
		c.close()
	}
	return err
}

func (ps *pools) peer(node identity.Name) *pool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	q := ps.peers[node]
	if q == nil {
		q = &pool{max: ps.cfg.IdleLanes, dials: ps.cfg.Dials, drop: ps.drop}
		ps.peers[node] = q
	}
	return q
}

// take returns an idle lane, a warm one if there is any.
func (ps *pools) take(ctx context.Context, t Target, o *opening) (*lane, error) {
	q := ps.peer(t.Node)
	l, err := q.take(ctx, o)
	if l != nil || err != nil {
		return l, err
	}
	defer q.dialled()
	return ps.dial(ctx, t)
}

// dial makes a lane: TCP, then TLS with that very node.
func (ps *pools) dial(ctx context.Context, t Target) (*lane, error) {
	l, err := ps.handshake(ctx, t)
	if err == nil {
		err = l.bind(true)
	}
	if err == nil {
		l.release = ps.back
		err = ps.add(l)
	}
	if err != nil {
		return nil, policy.Refuse(policy.ReasonOf(err, policy.ReasonLane), "node %s at %s: %v", t.Node, t.Lane, err)
	}
	return l, nil
}

func (ps *pools) handshake(ctx context.Context, t Target) (*lane, error) {
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	tcp, err := d.DialContext(ctx, "tcp", t.Lane.String())
	if err != nil {
		return nil, err
	}
	cfg := identity.ClientTLS(ps.cfg.Identities, identity.ALPNLane, identity.NodeID(ps.cfg.Node.TrustDomain(), t.Node), ps.cfg.Check)
	cfg.DynamicRecordSizingDisabled = true // every frame must be one record
	leaf := ps.cfg.Identities.NodeSVID().Chain[0]
	conn := tls.Client(tcp, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = tcp.Close()
		return nil, err
	}
	l, err := newLane(ps.cfg, ps.blocks, conn, leaf)
	if err != nil {
		_ = tcp.Close()
	}
	return l, err
}

// accept makes a lane of a connection that a peer dialled.
func (ps *pools) accept(conn *tls.Conn) (*lane, error) {
	l, err := newLane(ps.cfg, ps.blocks, conn, ps.cfg.Identities.NodeSVID().Chain[0])
	if err != nil {
		return nil, err
	}
	l.release = func(l *lane) { l.free() }
	if err := l.bind(false); err != nil {
		return nil, err
	}
	return l, ps.add(l)
}

func (ps *pools) add(l *lane) error {
	name := l.peer.Name()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	switch {
	case ps.closed:
		l.abort(policy.ReasonDrain)
		return net.ErrClosed
	case !l.dialled && ps.accepted[name] >= ps.cfg.PeerLanes:
		l.abort(policy.ReasonLimit)
		return fmt.Errorf("node %s has %d lanes here already", name, ps.cfg.PeerLanes)
	}
	if !l.dialled {
		ps.accepted[name]++
	}
	ps.lanes[l] = struct{}{}
	return nil
}

// drop ends an idle lane and unregisters it.
func (ps *pools) drop(l *lane) {
	l.abort(policy.ReasonLane)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if _, ok := ps.lanes[l]; !ok {
		return
	}
	delete(ps.lanes, l)
	if name := l.peer.Name(); !l.dialled {
		if ps.accepted[name]--; ps.accepted[name] == 0 {
			delete(ps.accepted, name)
		}
	}
}

// back puts a dialled lane whose stream is over into its pool.
func (ps *pools) back(l *lane) {
	if l.free() && time.Now().Before(l.freshUntil()) {
		ps.peer(l.peer.Name()).put(l)
		return
	}
	ps.drop(l)
}

func (l *lane) freshUntil() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.staleAt()
}

func (ps *pools) all() []*lane {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	out := make([]*lane, 0, len(ps.lanes))
	for l := range ps.lanes {
		out = append(out, l)
	}
	return out
}

// shut ends every lane; no further lane can be made.
func (ps *pools) shut() {
	ps.mu.Lock()
	ps.closed = true
	ps.mu.Unlock()
	for _, l := range ps.all() {
		l.abort(policy.ReasonDrain)
		if l.dialled {
			ps.drop(l)
		}
	}
}

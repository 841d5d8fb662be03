// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/socket"
	"tacit/tproxy/stall"
)

// Set holds all lanes of a node, dialled and accepted ones.
type Set struct {
	cfg  Config
	work sync.WaitGroup // goroutines that Upkeep started

	mu       sync.Mutex
	closed   bool
	peers    map[identity.Name]*pool
	lanes    map[*lane]struct{}
	accepted map[identity.Name]int
	cut      map[policy.Reason]uint64
}

// New makes an empty set. End it with Abort, then Wait.
func New(cfg Config) *Set {
	cfg.Limits = cfg.withDefaults()
	return &Set{cfg: cfg, peers: map[identity.Name]*pool{}, lanes: map[*lane]struct{}{}, accepted: map[identity.Name]int{}, cut: map[policy.Reason]uint64{}}
}

// Open opens a stream to a service of a peer, and proves the source to it. It
// returns when the destination is proven to this node: at once, where it was
// proven on the lane before. Then the client's first bytes go along: firstBytes
// reads, without waiting, what there is. If a warm lane breaks before the peer
// can have accepted the stream, as after a restart of the peer, a new lane is
// tried once. Every error is a *policy.Refusal.
func (s *Set) Open(ctx context.Context, to Peer, o Opening, firstBytes func(into []byte) int) (*End, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	q := &request{Opening: o, deadline: deadline, firstBytes: firstBytes, first: s.cfg.Blocks.Get()}
	defer func() { s.cfg.Blocks.Put(q.first) }()
	l, err := s.take(ctx, to, &q.Opening)
	if err != nil {
		return nil, err
	}
	c, err := l.open(q)
	if err != nil && l.streams > 1 && l.broke(err) {
		s.drop(l)
		if l, err = s.dial(ctx, to); err != nil {
			return nil, err
		}
		c, err = l.open(q)
	}
	if err == nil {
		return c, nil
	}
	return nil, s.failed(l, c, err)
}

// Reach says whether a peer's daemon answers, by dialling a lane that carries
// nothing.
func (s *Set) Reach(ctx context.Context, to Peer) error {
	l, err := s.dial(ctx, to)
	if err == nil {
		s.drop(l)
	}
	return err
}

// failed releases a lane whose peer refused the stream, or on which it wasn't
// opened.
func (s *Set) failed(l *lane, c *End, err error) error {
	switch {
	case c == nil:
		s.back(l)
	default:
		c.Reset(policy.ReasonOf(err, policy.ReasonLane))
		c.drain()
		c.Close()
	}
	return err
}

func (s *Set) peer(node identity.Name) *pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.peers[node]
	if q == nil {
		q = &pool{max: s.cfg.IdleLanes, dials: s.cfg.Dials, drop: s.drop}
		s.peers[node] = q
	}
	return q
}

// take returns an idle lane, a warm one if there is any.
func (s *Set) take(ctx context.Context, to Peer, o *Opening) (*lane, error) {
	q := s.peer(to.Node)
	l, err := q.take(ctx, o)
	if l != nil || err != nil {
		return l, err
	}
	defer q.dialled()
	return s.dial(ctx, to)
}

// dial makes a lane: TCP, then TLS with that very node.
func (s *Set) dial(ctx context.Context, to Peer) (*lane, error) {
	l, err := s.handshake(ctx, to)
	if err == nil {
		err = l.bind(true)
	}
	if err == nil {
		l.release = s.back
		err = s.add(l)
	}
	if err != nil {
		return nil, policy.Refuse(policy.ReasonOf(err, policy.ReasonLane), "node %s at %s: %v", to.Node, to.Addr, err)
	}
	return l, nil
}

func (s *Set) handshake(ctx context.Context, to Peer) (*lane, error) {
	d := net.Dialer{KeepAlive: -1, Control: s.cfg.Dialling}
	d.SetMultipathTCP(false)
	tcp, err := d.DialContext(ctx, "tcp", to.Addr.String())
	if err != nil {
		return nil, err
	}
	cfg := identity.ClientTLS(s.cfg.Identities, identity.ALPNLane, identity.NodeID(s.cfg.Node.TrustDomain(), to.Node), s.cfg.Check)
	cfg.DynamicRecordSizingDisabled = true // every frame must be one record
	leaf := s.cfg.Identities.NodeSVID().Chain[0]
	conn := tls.Client(stall.Watch(tcp.(*net.TCPConn)), cfg) // "tcp" gives no other
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = tcp.Close()
		return nil, err
	}
	l, err := newLane(&s.cfg, conn, leaf)
	if err != nil {
		_ = tcp.Close()
	}
	return l, err
}

// accept makes a lane of a connection that a peer dialled.
func (s *Set) accept(conn *tls.Conn) (*lane, error) {
	l, err := newLane(&s.cfg, conn, s.cfg.Identities.NodeSVID().Chain[0])
	if err != nil {
		return nil, err
	}
	l.release = func(l *lane) { l.free() }
	if err := l.bind(false); err != nil {
		return nil, err
	}
	return l, s.add(l)
}

func (s *Set) add(l *lane) error {
	name := l.peer.Name()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		l.abort(policy.ReasonDrain)
		return net.ErrClosed
	case !l.dialled && s.accepted[name] >= s.cfg.PeerLanes:
		l.abort(policy.ReasonLimit)
		s.cut[policy.ReasonLimit]++
		return fmt.Errorf("node %s has %d lanes here already", name, s.cfg.PeerLanes)
	}
	if !l.dialled {
		s.accepted[name]++
	}
	s.lanes[l] = struct{}{}
	return nil
}

// drop ends an idle lane and unregisters it.
func (s *Set) drop(l *lane) {
	l.abort(policy.ReasonLane)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.lanes[l]; !ok {
		return
	}
	delete(s.lanes, l)
	if why := l.fate(); faults()[why] {
		s.cut[why]++
	}
	if name := l.peer.Name(); !l.dialled {
		if s.accepted[name]--; s.accepted[name] == 0 {
			delete(s.accepted, name)
		}
	}
}

// faults are the reasons for which a lane is ended that are the peer's doing.
func faults() map[policy.Reason]bool {
	return map[policy.Reason]bool{policy.ReasonProtocol: true, policy.ReasonProof: true, policy.ReasonExpired: true, policy.ReasonRevoked: true, policy.ReasonSlow: true}
}

// fate is why an aborted lane ended.
func (l *lane) fate() policy.Reason {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// Cut is how many lanes were refused or ended through the peer's fault since the
// start, by reason.
func (s *Set) Cut() map[policy.Reason]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.cut)
}

// back puts a dialled lane whose stream is over into its pool.
func (s *Set) back(l *lane) {
	if l.free() && time.Now().Before(l.freshUntil()) {
		s.peer(l.peer.Name()).put(l)
		return
	}
	s.drop(l)
}

func (l *lane) freshUntil() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.staleAt()
}

func (s *Set) all() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*lane, 0, len(s.lanes))
	for l := range s.lanes {
		out = append(out, l)
	}
	return out
}

// List describes the lanes, idle ones too.
func (s *Set) List() []Info {
	all := s.all()
	out := make([]Info, 0, len(all))
	for _, l := range all {
		out = append(out, l.info())
	}
	return out
}

// Recheck calls Config.Check again for each lane's peer, and aborts the lanes
// that it refuses; their streams end with the reason "revoked".
func (s *Set) Recheck() {
	for _, l := range s.all() {
		if err := l.recheck(); err != nil {
			s.cfg.Log.Warn("lane cut", "peer", l.peer, "err", err)
			l.abort(policy.ReasonRevoked)
		}
	}
}

// Revoke aborts every lane with a node; their streams end with the reason
// "revoked".
func (s *Set) Revoke(node identity.Name) { s.end(node, policy.ReasonRevoked) }

// Lose aborts every lane with a node that is lost; their streams end with the
// reason "lane".
func (s *Set) Lose(node identity.Name) { s.end(node, policy.ReasonLane) }

// Heard returns whether a node has sent something within the last d on any lane.
// The kernel's acknowledgements don't count: it gives them for a stopped daemon too.
func (s *Set) Heard(node identity.Name, d time.Duration) bool {
	return slices.ContainsFunc(s.all(), func(l *lane) bool {
		if l.peer.Name() != node {
			return false
		}
		info, err := socket.Info(l.raw)
		return err == nil && time.Duration(info.Last_data_recv)*time.Millisecond < d
	})
}

func (s *Set) end(node identity.Name, why policy.Reason) {
	for _, l := range s.all() {
		if l.peer.Name() == node {
			l.abort(why)
		}
	}
}

// Abort ends every lane (reason "drain"); no further lane can be made.
func (s *Set) Abort() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, l := range s.all() {
		l.abort(policy.ReasonDrain)
		if l.dialled {
			s.drop(l)
		}
	}
}

// Wait returns when everything that Upkeep started has ended. Call it after
// Abort and the last Upkeep.
func (s *Set) Wait() { s.work.Wait() }

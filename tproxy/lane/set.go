// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/lane/frame"
	"tacit/tproxy/lane/guest"
	"tacit/tproxy/lane/trust"
	"tacit/tproxy/record"
	"tacit/tproxy/socket"
)

// Set holds all lanes of a node, dialled and accepted ones.
type Set struct {
	cfg    Config
	ctx    context.Context // of lanes that are dialled in advance
	cancel context.CancelFunc
	work   sync.WaitGroup // goroutines that dial in advance, and those of lanes

	mu       sync.Mutex
	closed   bool
	empty    chan struct{} // closed when the set is closed and no lane is left
	lanes    map[*lane]struct{}
	dialling map[route]chan struct{} // closed when a lane was dialled, or wasn't
	guests   map[identity.Name]*guest.Guest
	cut      map[policy.Reason]uint64
	dealt    int
}

// route is a peer as one loop reaches it: each loop has lanes of its own.
type route struct {
	node identity.Name
	loop *Loop
}

// New makes an empty set. End it with Abort, then Wait.
func New(cfg Config) *Set {
	cfg.Limits = cfg.withDefaults()
	s := &Set{cfg: cfg, lanes: map[*lane]struct{}{}, dialling: map[route]chan struct{}{}, guests: map[identity.Name]*guest.Guest{},
		cut: map[policy.Reason]uint64{}, empty: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// accept makes a lane of a connection that a peer dialled.
func (s *Set) accept(conn *tls.Conn) (*lane, error) {
	l, err := s.newLane(conn, s.nextLoop(), s.cfg.Identities.NodeSVID().Chain[0], false)
	if err == nil {
		err = s.add(l)
	}
	return l, err
}

// newLane makes a lane of a connection whose handshake is done. leaf is this node's
// certificate that the peer has seen.
func (s *Set) newLane(conn *tls.Conn, on *Loop, leaf *x509.Certificate, dialled bool) (*lane, error) {
	cs := conn.ConnectionState()
	peer, _, err := identity.PeerID(cs)
	if err != nil {
		return nil, err
	}
	dialer, acceptor := peer, s.cfg.Node
	if dialled {
		dialer, acceptor = acceptor, dialer
	}
	channel, err := identity.NewChannel(cs, dialer, acceptor)
	if err != nil {
		return nil, err
	}
	l := s.bare(peer, on, dialled, channel, leaf, cs.PeerCertificates, time.Now())
	return l, l.takeOver(conn)
}

// bare is a lane without a connection. chain is the peer's.
func (s *Set) bare(peer identity.ID, on *Loop, dialled bool, channel identity.Channel, leaf *x509.Certificate, chain []*x509.Certificate, now time.Time) *lane {
	return &lane{cfg: &s.cfg, loop: on, peer: peer, dialled: dialled, channel: channel, since: now, left: s.drop,
		guest: s.guestOf(peer.Name(), now), work: &s.work,
		ended: make(chan struct{}), standing: standing{idleAt: now}, traffic: traffic{streams: map[uint32]*Stream{}},
		trusted: trusted{trust.NewNodes(leaf, chain, now, s.cfg.Identities.Bundle()), trust.NewServices(now)}}
}

// takeOver takes the connection from crypto/tls and from Go's poller.
func (l *lane) takeOver(conn *tls.Conn) error {
	layer, below, err := record.Take(conn)
	if err != nil {
		return err
	}
	tcp, ok := below.(*net.TCPConn)
	if !ok {
		return errors.New("a lane must be TLS over TCP")
	}
	sock, err := socket.Take(tcp)
	if err != nil {
		return err
	}
	l.addr = sock.Peer()
	l.wire = wire{conn: sock, records: layer, out: frame.NewWriter(layer, &l.loop.buffers), heard: time.Now()}
	err = sock.Prepare()
	if err != nil {
		sock.Reset()
	}
	return err
}

// guestOf is what a peer does here.
func (s *Set) guestOf(name identity.Name, now time.Time) *guest.Guest {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.guests[name]
	if g == nil {
		g = guest.New(now, s.cfg.Budget)
		s.guests[name] = g
	}
	return g
}

// nextLoop deals accepted lanes out to the loops.
func (s *Set) nextLoop() *Loop {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dealt++
	return s.cfg.Loops[s.dealt%len(s.cfg.Loops)]
}

// add registers a lane and starts it.
func (s *Set) add(l *lane) error {
	name := l.peer.Name()
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		l.conn.Reset()
		return errClosed
	case !l.dialled && !l.guest.Join(s.cfg.PeerLanes):
		s.cut[policy.ReasonLimit]++
		s.mu.Unlock()
		l.conn.Reset()
		return policy.Refuse(policy.ReasonLimit, "node %s has %d lanes here already", name, s.cfg.PeerLanes)
	}
	s.lanes[l] = struct{}{}
	s.mu.Unlock()
	return l.start()
}

// drop unregisters a lane that has ended.
func (s *Set) drop(l *lane, why policy.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lanes, l)
	if slices.Contains(faults(), why) {
		s.cut[why]++
	}
	if !l.dialled {
		l.guest.Leave()
	}
	if s.closed && len(s.lanes) == 0 {
		close(s.empty)
	}
}

// faults are the reasons for which a lane is ended that are the peer's doing.
func faults() []policy.Reason {
	return []policy.Reason{policy.ReasonProtocol, policy.ReasonProof, policy.ReasonExpired, policy.ReasonRevoked, policy.ReasonSlow, policy.ReasonLimit}
}

// Cut is how many lanes were refused or ended through the peer's fault since the
// start, by reason.
func (s *Set) Cut() map[policy.Reason]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.cut)
}

func (s *Set) all() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.lanes))
}

// List describes the lanes, idle ones too.
func (s *Set) List() []Info {
	var out []Info
	for _, l := range s.all() {
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
func (s *Set) Revoke(node identity.Name) {
	for _, l := range s.all() {
		if l.peer.Name() == node {
			l.abort(policy.ReasonRevoked)
		}
	}
}

// Abort ends every lane (reason "drain"); no further lane can be made.
func (s *Set) Abort() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		if len(s.lanes) == 0 {
			close(s.empty)
		}
	}
	s.mu.Unlock()
	s.cancel()
	for _, l := range s.all() {
		l.abort(policy.ReasonDrain)
	}
}

// Wait returns when every lane has ended. Call it after Abort; the loops must run.
func (s *Set) Wait() {
	<-s.empty
	s.work.Wait()
}

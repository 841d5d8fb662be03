// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"context"
	"errors"
	"math"
	"net"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/record"
)

// take returns a lane to a peer, a warm one if there is any, and reserves a stream on it.
func (s *Set) take(ctx context.Context, on *Loop, to Peer) (*lane, error) {
	for {
		l, turn, busy := s.choose(route{to.Node, on})
		switch {
		case l == nil && turn:
			return s.dialTurn(ctx, on, to)
		case turn:
			s.work.Go(func() { s.dialAhead(on, to) })
		}
		if l != nil {
			return l, nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, policy.Refuse(policy.ReasonLane, "node %s at %s: a lane is being dialled, and its port doesn't answer", to.Node, to.Addr)
		}
	}
}

// dialAhead dials a lane that the next streams find warm, or as many as a poor way needs.
func (s *Set) dialAhead(on *Loop, to Peer) {
	for turn := true; turn; {
		l, err := s.dialTurn(s.ctx, on, to)
		if err != nil {
			return
		}
		l.release()
		if l, turn, _ = s.choose(route{to.Node, on}); l != nil {
			l.release()
		}
	}
}

// choose returns the lane that has the least to do. turn: the caller is to dial one,
// since there is none, or only such as have enough to do; busy is closed when a dial has ended.
func (s *Set) choose(r route) (best *lane, turn bool, busy <-chan struct{}) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	least, lanes := math.MaxInt, 0
	for l := range s.lanes {
		if l.peer.Name() != r.node || l.loop != r.loop || !l.dialled || !l.good(now) {
			continue
		}
		lanes++
		live, full := l.load()
		if full {
			live += fullStreams
		}
		if live < least {
			best, least = l, live
		}
	}
	if best != nil && !best.reserve() {
		best = nil // it has just ended
	}
	dialling := s.dialling[r]
	if dialling == nil && (best == nil || least >= fullStreams && lanes < dialledLanes) {
		turn = true
		s.dialling[r] = make(chan struct{})
	}
	return best, turn, dialling
}

const (
	fullStreams  = 1 << 20 // as how many streams a lane counts that has enough to do
	dialledLanes = 4       // per peer at most
)

// dialTurn dials a lane, and lets the next caller dial.
func (s *Set) dialTurn(ctx context.Context, on *Loop, to Peer) (*lane, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	l, err := s.dial(ctx, on, to)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.dialling[route{to.Node, on}])
	delete(s.dialling, route{to.Node, on})
	return l, err
}

// dial makes a lane: TCP, then TLS with that very node.
func (s *Set) dial(ctx context.Context, on *Loop, to Peer) (*lane, error) {
	l, err := s.handshake(ctx, on, to)
	if err == nil {
		err = s.add(l)
	}
	if err == nil && !l.reserve() {
		err = errors.New("it has ended the lane at once")
	}
	if err != nil {
		return nil, policy.Refuse(policy.ReasonOf(err, policy.ReasonLane), "node %s at %s: %v", to.Node, to.Addr, err)
	}
	return l, nil
}

func (s *Set) handshake(ctx context.Context, on *Loop, to Peer) (*lane, error) {
	d := net.Dialer{KeepAlive: -1, Control: s.cfg.Dialling}
	d.SetMultipathTCP(false)
	tcp, err := d.DialContext(ctx, "tcp", to.Addr.String())
	if err != nil {
		return nil, err
	}
	cfg := identity.ClientTLS(s.cfg.Identities, identity.ALPNLane, identity.NodeID(s.cfg.Node.TrustDomain(), to.Node), s.cfg.Check)
	leaf := s.cfg.Identities.NodeSVID().Chain[0]
	conn, err := record.Client(tcp, cfg)
	if err == nil {
		err = conn.HandshakeContext(ctx)
	}
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	l, err := s.newLane(conn, on, leaf, true)
	if err != nil {
		_ = tcp.Close()
	}
	return l, err
}

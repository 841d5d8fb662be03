// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"crypto/tls"

	"tacit/policy"
	"tacit/tproxy/lane"
)

// ServeLane serves one accepted connection with ALPN tacit-lane/1 whose
// handshake is done, until it ends. When ctx ends, the lane takes no further
// stream; the live one goes on until it ends or Close is called.
func (p *Proxy) ServeLane(ctx context.Context, conn *tls.Conn) {
	if !p.enter() {
		_ = conn.Close()
		return
	}
	defer p.work.Done()
	p.lanes.Serve(ctx, conn)
}

// inbound carries one stream of a lane to a program of this node.
func (p *Proxy) inbound(far *lane.Arrival) {
	s := p.newStream(Flow{Source: far.Source, Destination: far.Destination, Node: far.Node, Direction: DirectionIn,
		Client: far.Client, Port: far.Port})
	s.far = far.End
	p.begin(s)
	defer p.finish(s)
	near, err := p.admit(s, far)
	if err == nil {
		if err = s.attach(&s.near, near); err != nil {
			near.Interrupt()
		}
	}
	if err != nil {
		p.refused(s, err, policy.ReasonDial)
		s.refuseFar(far)
		return
	}
	s.run()
}

// refuseFar ends a stream that was refused here.
func (s *stream) refuseFar(far *lane.Arrival) {
	s.mu.Lock()
	s.over = true
	r := s.end
	s.mu.Unlock()
	far.Refuse(r)
}

// admit decides on a stream by the source that was proven on its lane, the
// grants of the peer, and this node's own policy. Only then does it prove the
// destination to the peer, and dial the program.
func (p *Proxy) admit(s *stream, far *lane.Arrival) (*programEnd, error) {
	if err := far.Proven(); err != nil {
		return nil, err
	}
	if err := p.granted(far.Node, far.Source); err != nil {
		return nil, err
	}
	if err := p.cfg.Router.Decide(far.Source, far.Destination).Err(); err != nil {
		return nil, err
	}
	if err := far.Prove(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(p.ctx, dialTimeout)
	defer cancel()
	return p.dialProgram(ctx, s, Inbound{Source: far.Source, Destination: far.Destination, Port: far.Port, Instance: far.Instance,
		Node: far.Node, Client: far.Client})
}

// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"crypto/tls"

	"tacit/policy"
	"tacit/tproxy/lane"
)

// ServeLane serves one accepted connection with ALPN tacit-lane/2 whose
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
func (p *Proxy) inbound(from *lane.Arrival) {
	if !p.enter() {
		from.Refuse(policy.ReasonDrain)
		return
	}
	defer p.work.Done()
	s := p.newStream(Flow{Source: from.Source, Destination: from.Destination, Node: from.Node, Direction: DirectionIn,
		Client: from.Client, Port: from.Port}, p.threadOf(from.Loop()))
	p.begin(s)
	if err := p.admit(s, from); err != nil {
		p.refuseArrival(s, from, err)
	}
}

// refuseArrival ends a stream that was refused here.
func (p *Proxy) refuseArrival(s *stream, from *lane.Arrival, err error) {
	p.refused(s, err, policy.ReasonDial)
	from.Refuse(s.reason())
}

// admit decides on a stream by the source that was proven on its lane, the grants of
// the peer, and this node's own policy. Only then does it prove the destination to the
// peer, and dial the program.
func (p *Proxy) admit(s *stream, from *lane.Arrival) error {
	if err := from.Proven(); err != nil {
		return err
	}
	if err := p.granted(from.Node, from.Source); err != nil {
		return err
	}
	if err := p.cfg.Router.Decide(from.Source, from.Destination).Err(); err != nil {
		return err
	}
	if err := from.Prove(); err != nil {
		return err
	}
	return p.dial(p.ctx, s, Inbound{Source: from.Source, Destination: from.Destination, Port: from.Port, Instance: from.Instance,
		Node: from.Node, Client: from.Client}, func(near *program, err error) {
		if err != nil {
			p.refuseArrival(s, from, err)
			return
		}
		s.near = near
		from.Attach(s)
	})
}

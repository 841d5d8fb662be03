// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"tacit/policy"
	"tacit/tproxy/lane"
	"tacit/tproxy/socket"
)

// captured carries one connection that was captured on this node. Nothing is
// read from it before its maker and its destination are known and allowed.
func (p *Proxy) captured(conn *net.TCPConn) {
	origin, err := p.cfg.Router.Identify(conn)
	near, err2 := newProgramEnd(conn, &p.blocks)
	if err == nil {
		err = err2
	}
	if err != nil {
		p.unknown(conn, origin, err)
		return
	}
	s := p.newStream(Flow{Source: origin.Source, Destination: origin.Destination, Direction: DirectionOut,
		Client: origin.Client, Port: origin.Port})
	s.near = near
	p.begin(s)
	defer p.finish(s)
	far, err := p.reach(s, origin)
	if err == nil {
		if err = s.attach(&s.far, far); err != nil {
			far.Reset(policy.ReasonOf(err, policy.ReasonDaemon))
			far.Close()
		}
	}
	if err != nil {
		p.refused(s, err, policy.ReasonLane)
		return
	}
	s.run()
}

// unknown resets a connection whose maker could not be identified.
func (p *Proxy) unknown(conn *net.TCPConn, o Origin, err error) {
	client, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	socket.Reset(conn)
	s := p.newStream(Flow{Source: o.Source, Destination: o.Destination, Direction: DirectionOut, Client: client, Port: o.Port})
	p.refused(s, err, policy.ReasonIdentity)
	p.report(s.flow())
}

// refused resets the connection to the program here and logs one line.
func (p *Proxy) refused(s *stream, err error, def policy.Reason) {
	r := policy.ReasonOf(err, def)
	s.stop(r)
	f := s.flow()
	p.cfg.Log.Info("connection refused", "source", f.Source, "destination", f.Destination, "node", f.Node,
		"direction", f.Direction, "client", f.Client, "reason", f.End, "err", err)
}

// reach decides, picks an instance and opens the far end of the stream. The
// stream has been registered before, so a sweep after a change of policy finds it.
func (p *Proxy) reach(s *stream, o Origin) (endpoint, error) {
	if err := p.cfg.Router.Decide(o.Source, o.Destination).Err(); err != nil {
		return nil, err
	}
	t, err := p.cfg.Router.Pick(o)
	if err != nil {
		return nil, asRefusal(err, policy.ReasonInstance)
	}
	if t.Local {
		s.place("", t.Port, DirectionLocal)
		return p.dialProgram(s, Inbound{Source: o.Source, Destination: o.Destination, Port: t.Port, Instance: t.Instance, Client: o.Client})
	}
	s.place(t.Node, t.Port, DirectionOut)
	if err := p.granted(t.Node, o.Destination); err != nil {
		return nil, err
	}
	near := s.near.(*programEnd)
	return p.lanes.Open(p.ctx, lane.Peer{Node: t.Node, Addr: t.Lane}, lane.Opening{Source: o.Source, Destination: o.Destination,
		Instance: t.Instance, Port: t.Port, Client: o.Client}, near.firstBytes)
}

// dialProgram connects a stream to a program of this node.
func (p *Proxy) dialProgram(s *stream, in Inbound) (*programEnd, error) {
	ctx, cancel := context.WithTimeout(p.ctx, dialTimeout)
	defer cancel()
	conn, err := p.cfg.Router.Dial(ctx, in)
	if err != nil {
		return nil, asRefusal(err, policy.ReasonDial)
	}
	s.dialled(conn.LocalAddr())
	e, err := newProgramEnd(conn, &p.blocks)
	if err != nil {
		_ = conn.Close()
	}
	return e, err
}

// asRefusal gives an error a reason if it has none.
func asRefusal(err error, def policy.Reason) error {
	if _, ok := errors.AsType[*policy.Refusal](err); ok {
		return err
	}
	return policy.Refuse(policy.ReasonOf(err, def), "%v", err)
}

// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"tacit/policy"
	"tacit/tproxy/headroom"
	"tacit/tproxy/socket"
)

// Entry is where connections come in. All methods are called from many goroutines
// at once.
type Entry interface {
	// Identify says who made an accepted connection; it must not read from it.
	Identify(*net.TCPConn) (Origin, error)
	// Holds says whether connections that Identify has let in may go on.
	Holds() bool
	// Left is called when one of them has ended.
	Left(Origin)
}

// capture is the Entry of captured connections.
type capture struct{ Router }

func (capture) Holds() bool { return true }
func (capture) Left(Origin) {}

// captured carries one connection that came in on this node. Nothing is read from
// it before its maker and its destination are known and allowed.
func (p *Proxy) captured(conn *net.TCPConn, entry Entry) {
	origin, err := entry.Identify(conn)
	if err == nil {
		defer entry.Left(origin)
		err = headroom.Of(conn, p.cfg.Headroom.Connection)
	}
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
	s.near, s.entry = near, entry
	p.begin(s)
	defer p.finish(s)
	far := p.newRoute(s, origin, near)
	if err = s.attach(&s.far, far); err == nil {
		err = far.open()
	}
	if err != nil {
		p.refused(s, err, policy.ReasonLane)
		far.Close()
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

// dialProgram connects a stream to a program of this node.
func (p *Proxy) dialProgram(ctx context.Context, s *stream, in Inbound) (*programEnd, error) {
	conn, err := p.cfg.Router.Dial(ctx, in)
	if err != nil {
		return nil, asRefusal(err, policy.ReasonDial)
	}
	if err := headroom.Of(conn, p.cfg.Headroom.Connection); err != nil {
		_ = conn.Close()
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

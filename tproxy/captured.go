// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"errors"

	"tacit/policy"
	"tacit/tproxy/socket"
)

// Entry is where connections come in. All methods are called from many goroutines
// at once.
type Entry interface {
	// Identify says who made an accepted connection; it must not read from it.
	Identify(fd int) (Origin, error)
	// Holds says whether connections that Identify has let in may go on.
	Holds() bool
	// Left is called when one of them has ended.
	Left(Origin)
}

// capture is the Entry of captured connections.
type capture struct{ Router }

func (capture) Holds() bool { return true }
func (capture) Left(Origin) {}

// captured carries one connection that came in on this node. Nothing is read from it
// before its maker and its destination are known and allowed.
func (p *Proxy) captured(fd int, entry Entry) {
	origin, err := entry.Identify(fd)
	if err == nil {
		if err = p.cfg.Headroom.Connection(fd); err != nil {
			entry.Left(origin)
		}
	}
	if err != nil {
		p.unknown(fd, origin, err)
		return
	}
	s := p.newStream(Flow{Source: origin.Source, Destination: origin.Destination, Direction: DirectionOut,
		Client: origin.Client, Port: origin.Port}, p.nextThread())
	s.near, s.entry, s.route = newProgram(fd, s.thread), entry, p.newRoute(s, origin)
	p.begin(s)
	s.route.open()
}

// unknown resets a connection whose maker could not be identified.
func (p *Proxy) unknown(fd int, o Origin, err error) {
	conn := socket.New(fd)
	s := p.newStream(Flow{Source: o.Source, Destination: o.Destination, Direction: DirectionOut, Client: conn.Peer(), Port: o.Port}, nil)
	conn.Reset()
	s.mark(policy.ReasonOf(err, policy.ReasonIdentity))
	p.sayRefused(s, err)
	p.report(s.flow())
}

// refused resets the connection to the program here and logs one line.
func (p *Proxy) refused(s *stream, err error, def policy.Reason) {
	s.stop(policy.ReasonOf(err, def))
	p.sayRefused(s, err)
}

func (p *Proxy) sayRefused(s *stream, err error) {
	f := s.flow()
	p.cfg.Log.Info("connection refused", "source", f.Source, "destination", f.Destination, "node", f.Node,
		"direction", f.Direction, "client", f.Client, "reason", f.End, "err", err)
}

// asRefusal gives an error a reason if it has none.
func asRefusal(err error, def policy.Reason) error {
	if _, ok := errors.AsType[*policy.Refusal](err); ok {
		return err
	}
	return policy.Refuse(policy.ReasonOf(err, def), "%v", err)
}

// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"errors"
	"time"

	"tacit/identity"
	"tacit/policy"
)

// serve serves one stream after another of a lane that a peer dialled, until the
// lane ends.
func (p *Proxy) serve(l *lane) error {
	for !l.done() {
		h, b, err := l.next()
		if errors.Is(err, errWoken) {
			continue
		}
		if err != nil {
			return err
		}
		var o opening
		switch {
		case h.kind == kindOpen && h.stream > l.last:
			if o, err = decodeOpening(b.payload()[:h.length]); err != nil {
				err = l.breach("%v", err)
			}
		case h.kind == kindOpen || h.stream > l.last:
			err = l.breach("stream %d after stream %d", h.stream, l.last)
		}
		l.blocks.put(b)
		if err != nil {
			return err
		}
		if h.kind == kindOpen {
			l.last = h.stream
			p.inbound(l, o)
		}
	}
	return nil
}

// inbound carries one stream to a program of this node.
func (p *Proxy) inbound(l *lane, o opening) {
	l.occupy()
	far := &laneEnd{l: l, id: l.last}
	s := p.newStream(Flow{Source: o.source, Destination: o.destination, Node: l.peer.Name(), Direction: DirectionIn,
		Client: o.client, Port: o.port})
	s.far = far
	p.begin(s)
	defer p.finish(s)
	near, err := p.admit(s, l, o)
	if err == nil {
		if err = s.attach(&s.near, near); err != nil {
			near.interrupt()
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
func (s *stream) refuseFar(far *laneEnd) {
	s.mu.Lock()
	s.over = true
	r := s.end
	s.mu.Unlock()
	far.refuse(r)
}

// admit decides on a stream by the source that was proven on this lane, the
// grants of the peer, and this node's own policy. Only then does it prove the
// destination to the peer, and dial the program.
func (p *Proxy) admit(s *stream, l *lane, o opening) (*programEnd, error) {
	if ok, _ := l.proven(o.source, time.Now()); !ok {
		return nil, policy.Refuse(policy.ReasonProof, "node %s hasn't proven %s on this lane", l.peer.Name(), o.source)
	}
	if err := p.granted(l.peer.Name(), o.source); err != nil {
		return nil, err
	}
	if err := p.cfg.Router.Decide(o.source, o.destination).Err(); err != nil {
		return nil, err
	}
	if o.prove {
		frame, err := l.service(identity.RoleServer, o.destination, true)
		if err != nil {
			return nil, err
		}
		if err := l.send(frame); err != nil {
			return nil, err
		}
	}
	return p.dialProgram(s, Inbound{Source: o.source, Destination: o.destination, Port: o.port, Instance: o.instance,
		Node: l.peer.Name(), Client: o.client})
}

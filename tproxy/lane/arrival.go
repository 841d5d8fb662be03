// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"tacit/identity"
)

// Arrival is a stream that a peer has opened on a lane. What its Opening says is
// the peer's word: see Proven.
type Arrival struct {
	*End
	Opening
	Node identity.Name // the peer
}

// Proven returns nil if the peer has proven the source on this lane, by a
// certificate that is still valid, and otherwise a *policy.Refusal.
func (a *Arrival) Proven() error {
	if ok, _ := a.l.proven(a.Source, time.Now()); !ok {
		return a.l.unproven(a.Source)
	}
	return nil
}

// Prove proves the destination to the peer, where the peer asked for it.
func (a *Arrival) Prove() error {
	if !a.prove {
		return nil
	}
	frame, err := a.l.service(identity.RoleServer, a.Destination, true)
	if err != nil {
		return err
	}
	return a.l.send(frame)
}

// Serve serves one accepted connection with ALPN tacit-lane/1 whose handshake is
// done, until it ends. When ctx ends, the lane takes no further stream; the live
// one goes on until it ends or Abort is called.
func (s *Set) Serve(ctx context.Context, conn *tls.Conn) {
	l, err := s.accept(conn)
	if err != nil {
		s.cfg.Log.Warn("lane refused", "peer", conn.RemoteAddr(), "err", err)
		_ = conn.Close()
		return
	}
	defer context.AfterFunc(ctx, l.retire)()
	err = l.serve()
	s.drop(l)
	s.cfg.Log.Debug("lane ended", "peer", l.peer, "err", err)
}

// serve serves one stream after another, until the lane ends.
func (l *lane) serve() error {
	for !l.done() {
		h, b, err := l.next()
		if errors.Is(err, ErrWoken) {
			continue
		}
		if err != nil {
			return err
		}
		var o Opening
		switch {
		case h.kind == kindOpen && h.stream > l.last:
			if o, err = decodeOpening(b.Payload()[:h.length]); err != nil {
				err = l.breach("%v", err)
			}
		case h.kind == kindOpen || h.stream > l.last:
			err = l.breach("stream %d after stream %d", h.stream, l.last)
		}
		l.blocks.Put(b)
		if err != nil {
			return err
		}
		if h.kind == kindOpen {
			l.last = h.stream
			l.occupy(o.Destination, o.Source)
			l.cfg.Accept(&Arrival{End: &End{l: l, id: l.last}, Opening: o, Node: l.peer.Name()})
		}
	}
	return nil
}

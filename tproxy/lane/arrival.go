// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/lane/frame"
	"tacit/tproxy/lane/message"
)

// Arrival is a stream that a peer has opened on a lane. What its Opening says is the
// peer's word: see Proven. Its methods may be called from any goroutine; either Attach
// or Refuse is called once.
type Arrival struct {
	message.Opening
	Node   identity.Name // the peer
	stream *Stream
}

// Proven returns nil if the peer has proven the source on this lane, by a certificate
// that is still valid, and otherwise a *policy.Refusal.
func (a *Arrival) Proven() error {
	l := a.stream.lane
	if ok, _ := l.proven(a.Source, time.Now()); !ok {
		return l.unproven(a.Source)
	}
	return nil
}

// Prove proves the destination to the peer, where the peer asked for it.
func (a *Arrival) Prove() error {
	if !a.Unproven {
		return nil
	}
	l := a.stream.lane
	err := l.show(identity.RoleServer, a.Destination)
	if err == nil {
		l.loop.Do(func() { l.send(frame.Answer, a.stream.id, nil) })
	}
	return err
}

// Loop is the loop on which the stream's user is called.
func (a *Arrival) Loop() *Loop { return a.stream.lane.loop }

// Attach gives the stream its user. It must be called on the stream's loop.
func (a *Arrival) Attach(u User) { a.stream.attach(u) }

// Refuse ends the stream.
func (a *Arrival) Refuse(r policy.Reason) {
	l := a.stream.lane
	l.loop.Do(func() {
		l.guest.Decided()
		a.stream.Reset(r)
	})
}

// arrived takes a stream that the peer opens.
func (l *lane) arrived(id uint32, payload []byte) {
	o, err := message.DecodeOpening(payload)
	switch {
	case err != nil:
		l.breach(err.Error())
		return
	case l.dialled || id <= l.last:
		l.breach(fmt.Sprintf("OPEN for stream %d after stream %d", id, l.last))
		return
	}
	l.last = id
	if why := l.admit(); why != "" {
		l.send(frame.Reset, id, []byte(why))
		l.strike("streams opened beyond the limits")
		return
	}
	st := newStream(l, o.Destination, o.Source)
	st.id = id
	l.streams[id] = st
	a := &Arrival{Opening: o, Node: l.peer.Name(), stream: st}
	l.guest.Go(func() { l.cfg.Accept(a) })
}

// admit counts one more stream, or says why the lane takes none.
func (l *lane) admit() policy.Reason {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.retiring && time.Since(l.retired) > dialTimeout: // until then, OPEN may have crossed RETIRE
		return policy.ReasonDrain
	case !l.guest.Open(min(l.cfg.PeerStreams, l.cfg.Share()), time.Now()):
		return policy.ReasonLimit
	}
	l.live++
	l.guest.Carried.Add(1)
	l.total.Add(1)
	return ""
}

// Serve serves one accepted connection with the lanes' ALPN whose handshake is done,
// until it ends. When ctx ends, the lane takes no further stream; those that live go
// on until they end or Abort is called.
func (s *Set) Serve(ctx context.Context, conn *tls.Conn) {
	l, err := s.accept(conn)
	if err != nil {
		s.cfg.Log.Warn("lane refused", "peer", conn.RemoteAddr(), "err", err)
		_ = conn.Close()
		return
	}
	defer context.AfterFunc(ctx, l.retire)()
	<-l.ended
}

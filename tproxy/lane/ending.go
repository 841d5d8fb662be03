// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"errors"
	"fmt"
	"time"

	"tacit/policy"
	"tacit/tproxy/lane/frame"
	"tacit/tproxy/record"
	"tacit/tproxy/socket"
)

// retire makes the lane take no further streams, and end after its last one.
func (l *lane) retire() {
	l.loop.Do(func() {
		l.send(frame.Retire, 0, nil)
		l.retireHere()
	})
}

// retireHere makes the lane take no further streams. The end that dialled it ends it
// after the last one: the other doesn't know of streams that are being opened.
func (l *lane) retireHere() {
	l.mu.Lock()
	l.idleAt = time.Now() // from when an acceptor waits
	if !l.retiring {
		l.retiring, l.retired = true, l.idleAt
	}
	idle := l.live == 0 && l.dialled
	l.mu.Unlock()
	if idle {
		l.loop.Do(l.finish)
	}
}

// finish ends a lane that carries nothing in an orderly way, once all was written.
func (l *lane) finish() {
	l.mu.Lock()
	idle := l.live == 0
	l.retiring = l.retiring || idle // so that no stream is reserved any more
	l.mu.Unlock()
	if !idle || l.finishing || l.ending {
		return
	}
	l.finishing = true
	l.out.Extra(record.EndSize, func(b []byte) (int, error) { return l.records.End(b, nil) })
	l.Flush()
}

// strike ends the lane of a peer that does too often what an honest one does seldom.
func (l *lane) strike(what string) {
	if !l.guest.Strike() {
		l.endNow(policy.ReasonLimit, fmt.Errorf("too many %s", what))
	}
}

// breach ends the lane through the peer's fault.
func (l *lane) breach(what string) { l.endNow(policy.ReasonProtocol, errors.New(what)) }

// endNow ends the lane, and its streams with it.
func (l *lane) endNow(r policy.Reason, err error) { l.end(r, err, socket.Conn.Reset) }

func (l *lane) end(r policy.Reason, err error, closing func(socket.Conn)) {
	if l.ending {
		return
	}
	l.ending = true
	l.mu.Lock()
	if l.why == "" {
		l.why = r
	}
	l.broken = true
	why := &policy.Refusal{Reason: l.why, Detail: fmt.Sprintf("lane with %s: %v", l.peer, err)}
	l.mu.Unlock()
	l.loop.Forget(l.conn.FD(), true)
	closing(l.conn)
	l.out.Drop()
	for _, s := range l.streams {
		s.lose(why)
	}
	l.waiting, l.touched = nil, nil
	l.cfg.Log.Debug("lane ended", "peer", l.peer, "reason", why.Reason, "err", err)
	l.left(l, why.Reason)
	close(l.ended)
}

// abort ends the lane at once, from any goroutine. The first reason stays.
func (l *lane) abort(r policy.Reason) {
	l.mu.Lock()
	first := !l.broken
	if first {
		l.broken, l.why = true, r
	}
	l.mu.Unlock()
	if first {
		l.loop.Do(func() { l.cutNow(r) })
	}
}

// cutNow ends the lane by this node's wish. What its streams were told before that, when
// the node stops, is still sent.
func (l *lane) cutNow(r policy.Reason) {
	closing := socket.Conn.Reset
	if r == policy.ReasonDrain && !l.ending {
		l.Flush()
		closing = socket.Conn.Close
	}
	l.end(r, errors.New("cut by this node"), closing)
}

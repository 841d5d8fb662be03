// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
	"tacit/tproxy/accept"
	"tacit/tproxy/stall"
)

const (
	maxHandshakes    = 256 // at once, on all listeners together
	handshakeTimeout = 5 * time.Second
)

// gate bounds the memory that a flood of handshakes takes.
type gate struct{ places chan struct{} }

func newGate() gate { return gate{make(chan struct{}, maxHandshakes)} }

// enter takes a place for a handshake with from, or refuses. All addresses
// share the places: a share for each would be decided here.
func (g gate) enter(_ net.Addr) (leave func(), ok bool) {
	select {
	case g.places <- struct{}{}:
		return func() { <-g.places }, true
	default:
		return nil, false
	}
}

// serve accepts the connections of one listener.
func (p *Peers) serve(ctx context.Context, ln net.Listener) error {
	return accept.Loop(ctx, ln, func(conn net.Conn) {
		tcp, isTCP := conn.(*net.TCPConn)
		leave, ok := p.gate.enter(conn.RemoteAddr())
		if !ok || !isTCP {
			_ = conn.Close()
			return
		}
		p.work.Go(func() { p.answer(ctx, tls.Server(stall.Watch(tcp), p.tls), leave) })
	})
}

// answer completes the handshake, leaves the gate, and hands the connection on.
func (p *Peers) answer(ctx context.Context, conn *tls.Conn, leave func()) {
	err := handshake(ctx, conn)
	leave()
	if err != nil {
		p.conf.Log.Debug("handshake refused", "peer", conn.RemoteAddr(), "err", err)
		_ = conn.Close()
		return
	}
	if err := p.dispatch(ctx, conn); err != nil {
		p.conf.Log.Warn("request to the authority refused", "peer", conn.RemoteAddr(), "err", err)
	}
}

func handshake(ctx context.Context, conn *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	return conn.HandshakeContext(ctx)
}

// dispatch gives the connection to what its ALPN says. A lane is the proxy's
// from then on.
func (p *Peers) dispatch(ctx context.Context, conn *tls.Conn) error {
	switch conn.ConnectionState().NegotiatedProtocol {
	case identity.ALPNLane:
		go p.conf.Lanes.ServeLane(ctx, conn)
		return nil
	case identity.ALPNHere: // the handshake was all
		_ = conn.Close()
		return nil
	case identity.ALPNEnrol:
		return enrol.ServeAdmission(ctx, conn, p.conf.Issuer)
	case identity.ALPNIssue:
		return enrol.ServeIssue(ctx, conn, p.conf.Issuer)
	}
	return errors.Join(errors.New("no protocol agreed"), conn.Close())
}

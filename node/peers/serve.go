// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
	"tacit/node/peers/gate"
	"tacit/policy"
	"tacit/tproxy/accept"
	"tacit/tproxy/headroom"
	"tacit/tproxy/record"
	"tacit/tproxy/socket"
)

const (
	handshakeTimeout = 5 * time.Second
	lastHandshakes   = time.Second // for those that have begun when this node stops, or another daemon takes over
)

// serve accepts the connections of one listener, as far as the gate has a place.
func (p *Peers) serve(ctx context.Context, ln net.Listener) error {
	return accept.Loop(ctx, ln, func(conn net.Conn) {
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			_ = conn.Close()
			return
		}
		place, why, err := p.enter(tcp)
		if place == nil {
			p.log(why, tcp, err)
			socket.Reset(tcp)
			return
		}
		secure, err := record.Server(tcp, p.tls)
		if err != nil { // the configuration is the daemon's own
			p.log(policy.ReasonHandshake, tcp, err)
			place.Leave()
			socket.Reset(tcp)
			return
		}
		p.work.Go(func() { p.answer(ctx, secure, place) })
	})
}

// enter takes a place at the gate, where this process has room for a connection.
func (p *Peers) enter(tcp *net.TCPConn) (place *gate.Place, why policy.Reason, err error) {
	if err := headroom.Of(tcp, p.conf.Headroom.Lane); err != nil {
		p.gate.Count(policy.ReasonLimit)
		return nil, policy.ReasonLimit, err
	}
	place, why = p.gate.Enter(addrOf(tcp), func() { socket.Reset(tcp) })
	return place, why, nil
}

func addrOf(conn net.Conn) netip.Addr {
	at, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	return at.Addr()
}

// answer completes the handshake and hands the connection on. It keeps the place
// until the peer's certificate has been accepted or its request answered.
func (p *Peers) answer(ctx context.Context, conn *tls.Conn, place *gate.Place) {
	defer place.Leave()
	if err := handshake(ctx, conn); err != nil {
		_ = conn.Close()
		p.refuse(ctx, conn, place, err)
		return
	}
	if err := p.dispatch(ctx, conn, place); err != nil {
		p.refuse(ctx, conn, place, &policy.Refusal{Reason: policy.ReasonOf(untimely(err), policy.ReasonRequest), Detail: err.Error()})
	}
}

func handshake(ctx context.Context, conn *tls.Conn) error {
	this, cancel := context.WithTimeout(context.WithoutCancel(ctx), handshakeTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastHandshakes, cancel) })()
	return conn.HandshakeContext(this)
}

// dispatch gives the connection to what its ALPN says. A lane is the proxy's
// from then on.
func (p *Peers) dispatch(ctx context.Context, conn *tls.Conn, place *gate.Place) error {
	switch conn.ConnectionState().NegotiatedProtocol {
	case identity.ALPNLane:
		p.met(conn)
		place.Leave()
		go p.conf.Lanes.ServeLane(ctx, conn)
		return nil
	case identity.ALPNHere: // the handshake was all
		p.met(conn)
		_ = conn.Close()
		return nil
	case identity.ALPNEnrol: // nobody is known by a handshake without a certificate
		return enrol.ServeAdmission(ctx, conn, settling{p.conf.Issuer, place})
	case identity.ALPNIssue:
		p.met(conn)
		place.Settle()
		return enrol.ServeIssue(ctx, conn, p.conf.Issuer)
	}
	return errors.Join(errors.New("no protocol agreed"), conn.Close())
}

// met remembers where a node's handshake came from.
func (p *Peers) met(conn *tls.Conn) {
	if id, _, err := identity.PeerID(conn.ConnectionState()); err == nil {
		p.gate.Seen(addrOf(conn), id.Name())
	}
}

// settling keeps the place once a request is there: a token that is redeemed for
// a connection which gives way would be lost.
type settling struct {
	enrol.Issuer
	place *gate.Place
}

func (s settling) Admit(ctx context.Context, ask enrol.Ask) (*enrol.Admission, error) {
	s.place.Settle()
	return s.Issuer.Admit(ctx, ask)
}

// refuse counts and logs why a connection came to nothing, once.
func (p *Peers) refuse(ctx context.Context, conn net.Conn, place *gate.Place, err error) {
	if ctx.Err() != nil {
		return
	}
	why := place.Evicted() // has been counted
	if why == "" {
		why = policy.ReasonOf(untimely(err), policy.ReasonHandshake)
		p.gate.Count(why)
	}
	p.log(why, conn, err)
}

// log has one line for each reason in health.LogInterval: what else it says is the
// word of somebody who may have proven nothing.
func (p *Peers) log(why policy.Reason, conn net.Conn, err error) {
	args := []any{"reason", why, "peer", conn.RemoteAddr()}
	if err != nil {
		args = append(args, "said", err)
	}
	p.conf.Log.Warn("connection to the lane port refused", args...)
}

// untimely makes a refusal of a deadline that has passed.
func untimely(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return &policy.Refusal{Reason: policy.ReasonSlow, Detail: err.Error()}
	}
	return err
}

// Refused is how many connections to the lane port have proven nothing yet, and
// how many were refused since the start.
func (p *Peers) Refused() (unproven int, refused map[policy.Reason]uint64) { return p.gate.Report() }

// serverTLS is identity.ServerTLS with a reason for each refusal.
func (p *Peers) serverTLS() *tls.Config {
	conf := identity.ServerTLS(p.conf.Identities, p.conf.Check)
	verify := conf.VerifyConnection
	conf.VerifyConnection = func(cs tls.ConnectionState) error { return strange(verify(cs)) }
	conf.GetConfigForClient = p.greet
	return conf
}

// strange says why a certificate isn't a member's.
func strange(err error) error {
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &policy.Refusal{Reason: policy.ReasonExpired, Detail: err.Error()}
	}
	return &policy.Refusal{Reason: policy.ReasonOf(err, policy.ReasonMember), Detail: err.Error()}
}

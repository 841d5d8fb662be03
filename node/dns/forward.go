// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Exchange answers one raw query: a mesh name from the zone, any other with the
// unchanged reply of upstream. network is "udp" or "tcp"; raw and reply have no
// length prefix. The reply is SERVFAIL if upstream can't be reached, has refused a
// query just now or doesn't answer, or if too many queries are being forwarded. The error is ErrMalformed,
// where no reply is due, or ctx's.
func (s *Server) Exchange(ctx context.Context, raw []byte, network string, upstream netip.AddrPort) ([]byte, error) {
	unknown := func() uint64 { return 0 }
	q, reply, err := s.local(raw, network, unknown)
	if reply != nil || err != nil {
		return reply, err
	}
	return s.limited(ctx, raw, q, route{network, upstream}, unknown)
}

// limited forwards a query of a sender, or answers SERVFAIL if too many are being
// forwarded.
func (s *Server) limited(ctx context.Context, raw []byte, q question, r route, ask func() uint64) ([]byte, error) {
	sender, ok := s.inflight.enter(ask)
	if !ok {
		s.log.Debug("DNS query refused: too many are being forwarded", "limit", maxInflight)
		return failure(raw, q, rcodeServFail), nil
	}
	defer s.inflight.leave(sender)
	return s.forward(ctx, raw, q, r)
}

// local answers without an upstream; reply is nil for a name that must be forwarded.
func (s *Server) local(raw []byte, network string, ask func() uint64) (q question, reply []byte, err error) {
	if q, err = parseQuestion(raw); err != nil {
		return q, nil, err
	}
	if q.count > 1 { // RFC 9619
		return q, failure(raw, q, rcodeFormErr), nil
	}
	p := s.classify(q.labels)
	if p.kind == outside {
		return q, nil, nil
	}
	if p.real && !s.zone.Enrolled(ask()) {
		q.real = p.name
		return q, nil, nil
	}
	reply, err = s.answer(raw, network == "udp")
	return q, reply, err
}

// route is the network and address of an upstream.
type route struct {
	network  string
	upstream netip.AddrPort
}

func (s *Server) forward(ctx context.Context, raw []byte, q question, r route) ([]byte, error) {
	var err error
	tries, timeout, ask := udpTries, s.timeout, askUDP
	if r.network == "tcp" {
		tries, timeout, ask = 1, udpTries*s.timeout, askTCP
	}
	open := s.refusing.enter(r)
	for n := 0; n < tries && open.Err() == nil; n++ {
		var reply []byte
		try, cancel := context.WithTimeout(ctx, timeout)
		stop := context.AfterFunc(open, cancel)
		reply, err = ask(try, raw, q, s.mark(q), r.upstream)
		stop()
		cancel()
		if err == nil {
			return s.checked(reply, raw, q, r), nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("DNS query to %s: %w", r.upstream, ctx.Err())
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			s.refusing.note(r)
		}
	}
	s.log.Debug("resolver does not answer", "resolver", r.upstream, "network", r.network, "error", err)
	return failure(raw, q, rcodeServFail), nil
}

// checked is the reply of an upstream, or SERVFAIL in its place if it leads to a
// virtual address.
func (s *Server) checked(reply, raw []byte, q question, r route) []byte {
	addr := s.rebinds(reply)
	if !addr.IsValid() {
		return reply
	}
	s.rebinding.Add(1)
	s.log.Warn("a resolver's answer was refused: a name outside of the mesh must not lead to a virtual address",
		"name", joined(q.labels), "address", addr, "resolver", r.upstream)
	return failure(raw, q, rcodeServFail)
}

// mark prepares the socket of a query for a name of which no other query may leave
// this host.
func (s *Server) mark(q question) marker {
	if q.real == "" {
		return nil
	}
	return func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) { err = s.tag(int(fd), q.real) }), err)
	}
}

type marker func(network, address string, raw syscall.RawConn) error

// askUDP sends the query once, from a new socket and port.
func askUDP(ctx context.Context, raw []byte, q question, m marker, upstream netip.AddrPort) ([]byte, error) {
	c, stop, err := dial(ctx, "udp", m, upstream)
	if err != nil {
		return nil, err
	}
	defer stop()
	if _, err := c.Write(raw); err != nil {
		return nil, err
	}
	buf := packetBuffers.Get().(*[packetBuffer]byte)
	defer packetBuffers.Put(buf)
	for {
		n, err := c.Read(buf[:])
		if err != nil {
			return nil, err
		}
		if answers(buf[:n], raw, q) {
			return append([]byte(nil), buf[:n]...), nil
		}
	}
}

// askTCP sends the query over a new connection.
func askTCP(ctx context.Context, raw []byte, q question, m marker, upstream netip.AddrPort) ([]byte, error) {
	c, stop, err := dial(ctx, "tcp", m, upstream)
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := writeFrame(c, raw); err != nil {
		return nil, err
	}
	for {
		reply, err := readFrame(c)
		if err != nil {
			return nil, err
		}
		if answers(reply, raw, q) {
			return reply, nil
		}
	}
}

// dial connects; the end of ctx also ends reads and writes.
func dial(ctx context.Context, network string, m marker, upstream netip.AddrPort) (c net.Conn, stop func(), err error) {
	d := net.Dialer{Control: m}
	d.SetMultipathTCP(false)
	if c, err = d.DialContext(ctx, network, upstream.String()); err != nil {
		return nil, nil, err
	}
	wake := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return c, func() { wake(); _ = c.Close() }, nil
}

// readFrame reads one message of a DNS stream (RFC 1035, section 4.2.2).
func readFrame(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	p := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, p)
	return p, err
}

// writeFrame writes one message with its length in one write (RFC 7766, section 8).
func writeFrame(w io.Writer, p []byte) error {
	if len(p) > 0xffff {
		return fmt.Errorf("a DNS message of %d bytes is too long for TCP", len(p))
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(p)), uint16(len(p))), p...))
	return err
}

const packetBuffer = 1 << 16

// packetBuffers saves allocating a buffer for the largest packet with each query.
var packetBuffers = sync.Pool{New: func() any { return new([packetBuffer]byte) }}

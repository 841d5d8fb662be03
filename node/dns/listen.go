// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"tacit/tproxy/accept"
)

const receiveBuffer = 4 << 20 // bytes of the kernel's buffer, for bursts

// serveUDP answers mesh names in the reading goroutine, so that a flood of other
// names doesn't delay them, and forwards in the background.
func (s *Server) serveUDP(ctx context.Context, udp net.PacketConn, upstream netip.AddrPort) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	if c, ok := udp.(*net.UDPConn); ok {
		enlarge(c)
	}
	buf := make([]byte, packetBuffer)
	for {
		n, from, err := udp.ReadFrom(buf)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("DNS over UDP on %s: %w", udp.LocalAddr(), err)
			}
			if !pause(ctx) {
				return nil
			}
			continue
		}
		s.packet(ctx, &wait, packet{udp, from, buf[:n]}, upstream)
	}
}

// enlarge lets a burst wait in the kernel, beyond net.core.rmem_max where the
// daemon may.
func enlarge(c *net.UDPConn) {
	_ = c.SetReadBuffer(receiveBuffer)
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, receiveBuffer)
		})
	}
}

// packet is a query and the address for its answer.
type packet struct {
	udp  net.PacketConn
	from net.Addr
	raw  []byte
}

func (p packet) reply(b []byte) { _, _ = p.udp.WriteTo(b, p.from) }

func (s *Server) packet(ctx context.Context, wait *sync.WaitGroup, p packet, upstream netip.AddrPort) {
	q, reply, err := s.local(p.raw, "udp", func() uint64 { return s.senders.now("udp", p.from, p.udp.LocalAddr()) })
	if err != nil {
		return
	}
	if reply != nil {
		p.reply(reply)
		return
	}
	sender, ok := s.inflight.enter(func() uint64 { return s.senders.of("udp", p.from, p.udp.LocalAddr()) })
	if !ok {
		s.log.Debug("DNS query refused: too many are being forwarded", "sender", sender, "from", p.from)
		p.reply(failure(p.raw, q, rcodeServFail))
		return
	}
	p.raw = bytes.Clone(p.raw)
	wait.Go(func() {
		defer s.inflight.leave(sender)
		if reply, err := s.forward(ctx, p.raw, q, route{"udp", upstream}); err == nil {
			p.reply(reply)
		}
	})
}

// serveTCP accepts clients. A listener that another program destroyed doesn't end
// the server: its owner ends ctx and serves a new one.
func (s *Server) serveTCP(ctx context.Context, tcp net.Listener, upstream netip.AddrPort) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	err := accept.Loop(ctx, tcp, func(c net.Conn) {
		ask := func() uint64 { return s.senders.of("tcp", c.RemoteAddr(), c.LocalAddr()) }
		sender, ok := s.conns.enter(ask)
		if !ok {
			_ = c.Close()
			return
		}
		wait.Go(func() {
			defer s.conns.leave(sender)
			s.client(ctx, c, upstream, ask)
		})
	})
	if err == nil || errors.Is(err, net.ErrClosed) {
		return err
	}
	s.log.Warn("DNS over TCP waits for a new listener", "err", err) // whoever opened this one notices that it is gone
	<-ctx.Done()
	return nil
}

// client answers the queries of one TCP connection, each as soon as its answer is
// ready (RFC 7766, section 6.2.1.1).
func (s *Server) client(ctx context.Context, c net.Conn, upstream netip.AddrPort, ask func() uint64) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	var wait sync.WaitGroup
	defer func() {
		wait.Wait() // a client may wait for answers after a half-close
		cancel()
		stop()
		_ = c.Close()
	}()
	var writing sync.Mutex
	slots := make(chan struct{}, maxPipelined)
	for {
		_ = c.SetReadDeadline(time.Now().Add(idleTimeout))
		raw, err := readFrame(c)
		if err != nil {
			return
		}
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			q, reply, err := s.local(raw, "tcp", func() uint64 { return s.senders.now("tcp", c.RemoteAddr(), c.LocalAddr()) })
			if reply == nil && err == nil {
				reply, err = s.limited(ctx, raw, q, route{"tcp", upstream}, ask)
			}
			if err != nil {
				return
			}
			writing.Lock()
			defer writing.Unlock()
			_ = c.SetWriteDeadline(time.Now().Add(idleTimeout))
			if writeFrame(c, reply) != nil {
				cancel()
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"tacit/redirect/listen"
	"tacit/tproxy/accept"
)

const (
	maxQueries   = 256 // queries of other network namespaces under way at once, per protocol and address family
	queryTimeout = 10 * time.Second
	maxDatagram  = 4096
)

// answerUDP answers queries that were captured from other network namespaces,
// each from the address that it was sent to.
func (r *resolvers) answerUDP(ctx context.Context, udp *listen.TransparentUDP) error {
	stop := context.AfterFunc(ctx, func() { _ = udp.Close() })
	defer stop()
	gate := make(chan struct{}, maxQueries)
	for {
		buf := make([]byte, maxDatagram)
		size, from, resolver, err := udp.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("queries of other network namespaces: %w", err)
		}
		select {
		case gate <- struct{}{}:
		default:
			continue // a flood: the client asks again
		}
		go func() {
			defer func() { <-gate }()
			reply, err := r.conf.Names.Exchange(ctx, buf[:size], "udp", resolver)
			if err == nil {
				err = udp.WriteFrom(reply, resolver, from)
			}
			if err != nil {
				r.conf.Log.Debug("a query of another network namespace was not answered", "from", from, "err", err)
			}
		}()
	}
}

// answerTCP does the same over TCP.
func (r *resolvers) answerTCP(ctx context.Context, ln *net.TCPListener) error {
	gate := make(chan struct{}, maxQueries)
	return accept.Loop(ctx, ln, func(conn net.Conn) {
		select {
		case gate <- struct{}{}:
		default:
			_ = conn.Close()
			return
		}
		go func() {
			defer func() { <-gate }()
			defer conn.Close()
			if err := r.answerConn(ctx, conn); err != nil {
				r.conf.Log.Debug("a query of another network namespace was not answered", "from", conn.RemoteAddr(), "err", err)
			}
		}()
	})
}

// answerConn answers one query after another; each message is preceded by its
// length (RFC 1035, 4.2.2). The connection's own address is the resolver that
// was asked.
func (r *resolvers) answerConn(ctx context.Context, conn net.Conn) error {
	resolver, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil || resolver.Port() != 53 {
		return fmt.Errorf("not a captured query: it was sent to %s", conn.LocalAddr())
	}
	for {
		if err := conn.SetDeadline(time.Now().Add(queryTimeout)); err != nil {
			return err
		}
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return nil // the client has no more questions
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return err
		}
		reply, err := r.conf.Names.Exchange(ctx, query, "tcp", resolver)
		if err != nil {
			return err
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return err
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"tacit/redirect"
)

const (
	maxForeign     = 256 // look-ups of other namespaces under way at once
	foreignTimeout = 10 * time.Second
)

// serveForeignUDP answers queries that TPROXY captured from other namespaces,
// each from the address that it was sent to.
func (n *Node) serveForeignUDP(ctx context.Context, udp *redirect.TransparentUDP) error {
	stop := context.AfterFunc(ctx, func() { _ = udp.Close() })
	defer stop()
	gate := make(chan struct{}, maxForeign)
	for {
		buf := make([]byte, 4096)
		size, from, orig, err := udp.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("names of other namespaces: %w", err)
		}
		select {
		case gate <- struct{}{}:
		default:
			continue // a flood: the resolver asks again
		}
		go func() {
			defer func() { <-gate }()
			reply, err := n.dns.Exchange(ctx, buf[:size], "udp", orig)
			if err == nil {
				err = udp.WriteFrom(reply, orig, from)
			}
			if err != nil {
				n.log.Debug("name look-up of another namespace failed", "from", from, "err", err)
			}
		}()
	}
}

// serveForeignTCP does the same over TCP: one query after another on a connection.
func (n *Node) serveForeignTCP(ctx context.Context, ln *net.TCPListener) error {
	gate := make(chan struct{}, maxForeign)
	return accept(ctx, ln, func(conn net.Conn) {
		select {
		case gate <- struct{}{}:
			go func() {
				defer func() { <-gate }()
				defer conn.Close()
				if err := n.answerTCP(ctx, conn); err != nil {
					n.log.Debug("name look-up of another namespace failed", "from", conn.RemoteAddr(), "err", err)
				}
			}()
		default:
			_ = conn.Close()
		}
	})
}

// answerTCP reads and writes messages behind their length (RFC 1035, 4.2.2).
// The connection's own address is the resolver that was asked.
func (n *Node) answerTCP(ctx context.Context, conn net.Conn) error {
	orig, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil || orig.Port() != 53 {
		return fmt.Errorf("not a captured query: it was sent to %s", conn.LocalAddr())
	}
	for {
		if err := conn.SetDeadline(time.Now().Add(foreignTimeout)); err != nil {
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
		reply, err := n.dns.Exchange(ctx, query, "tcp", orig)
		if err != nil {
			return err
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return err
		}
	}
}

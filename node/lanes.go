// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
)

const (
	maxHandshakes    = 256
	handshakeTimeout = 5 * time.Second
)

func serverTLS(n *Node) *tls.Config { return identity.ServerTLS(n.wallet, n.checkPeer) }

// checkPeer refuses revoked keys, and nodes whose key is not the member's:
// a certificate alone, however valid, is no membership.
func (n *Node) checkPeer(id identity.ID, leaf *x509.Certificate) error {
	l := n.member.ledger
	if l.Revoked(sha256.Sum256(leaf.RawSubjectPublicKeyInfo)) {
		return fmt.Errorf("%s: its key has been revoked", id)
	}
	if !id.IsNode() {
		return fmt.Errorf("%s: not a node", id)
	}
	if m, ok := l.Member(id.Name()); !ok || !bytes.Equal(m.Public, leaf.RawSubjectPublicKeyInfo) {
		return fmt.Errorf("%s: no member with this key", id)
	}
	return nil
}

// serveLane completes the handshake, frees the place at the gate, and serves.
func (n *Node) serveLane(ctx context.Context, conn *tls.Conn, free func()) {
	hctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	err := conn.HandshakeContext(hctx)
	cancel()
	free()
	if err != nil {
		n.log.Debug("handshake refused", "peer", conn.RemoteAddr(), "err", err)
		_ = conn.Close()
		return
	}
	switch conn.ConnectionState().NegotiatedProtocol {
	case identity.ALPNHere:
		_ = conn.Close()
		return
	case identity.ALPNLane:
		n.proxy.ServeLane(ctx, conn)
		return
	case identity.ALPNEnrol:
		err = enrol.ServeAdmission(ctx, conn, office{n})
	case identity.ALPNIssue:
		err = enrol.ServeIssue(ctx, conn, office{n})
	default:
		err = errors.Join(errors.New("no protocol agreed"), conn.Close())
	}
	if err != nil {
		n.log.Warn("request to the authority refused", "peer", conn.RemoteAddr(), "err", err)
	}
}

// listenTCP never makes an MPTCP listener: sk_lookup and peers want plain TCP.
func listenTCP(ctx context.Context, addr netip.Addr, port uint16) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	return lc.Listen(ctx, "tcp", netip.AddrPortFrom(addr, port).String())
}

func portError(flag string, port uint16, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s %d: the port is in use by another program; stop it (ss -lntp) or give another port", flag, port)
	}
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return fmt.Errorf("%s %d: this host doesn't have the address given by --address: %w", flag, port, err)
	}
	return fmt.Errorf("%s %d: %w", flag, port, err)
}

// accept hands connections to f until ctx ends.
func accept(ctx context.Context, ln net.Listener, f func(net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED) {
			time.Sleep(10 * time.Millisecond) // wait for a descriptor instead of spinning
			continue
		}
		if err != nil {
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		}
		f(conn)
	}
}

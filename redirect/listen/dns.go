// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// dnsTries is how many free UDP ports are tried until one is free for TCP too.
const dnsTries = 16

// DNSPair receives captured DNS of one family, UDP and TCP on the same port.
type DNSPair struct {
	UDP *TransparentUDP
	TCP *net.TCPListener
}

// InheritedDNS takes the pair of this name; nil where there is none.
func InheritedDNS(ctx context.Context, name string, v6 bool, from *Inherited) *DNSPair {
	conn, tcp := from.UDP(name+" UDP"), from.TCP(name+" TCP")
	if conn == nil || tcp == nil {
		closeBoth(conn, tcp)
		return nil
	}
	raw, err := openReply(ctx, v6)
	if err != nil {
		closeBoth(conn, tcp)
		return nil
	}
	return &DNSPair{UDP: &TransparentUDP{conn: conn, raw: raw, v6: v6}, TCP: tcp}
}

func closeBoth(udp *net.UDPConn, tcp *net.TCPListener) {
	if udp != nil {
		_ = udp.Close()
	}
	if tcp != nil {
		_ = tcp.Close()
	}
}

// Sockets are the pair's, by the names under which [InheritedDNS] looks for them.
func (p *DNSPair) Sockets(name string) map[string]syscall.Conn {
	return map[string]syscall.Conn{name + " UDP": p.UDP, name + " TCP": p.TCP}
}

// DNS opens the transparent DNS listeners on 127.0.0.1, or on ::1 with v6.
func DNS(ctx context.Context, v6 bool) (*DNSPair, error) {
	var last error
	for range dnsTries {
		udp, err := NewTransparentUDP(ctx, v6)
		if err != nil {
			return nil, err
		}
		tcp, err := listenTCP(ctx, udp.LocalAddr())
		if err == nil {
			return &DNSPair{UDP: udp, TCP: tcp}, nil
		}
		last = errors.Join(err, udp.Close())
	}
	return nil, fmt.Errorf("no port is free for both UDP and TCP: %w", last)
}

// Port is the port of both sockets.
func (p *DNSPair) Port() uint16 { return p.UDP.LocalAddr().Port() }

// Close closes both sockets.
func (p *DNSPair) Close() error { return errors.Join(p.UDP.Close(), p.TCP.Close()) }

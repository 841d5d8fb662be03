// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// dnsTries is how many free UDP ports are tried until one is free for TCP too.
const dnsTries = 16

// DNSPair receives captured DNS of one family, UDP and TCP on the same port.
type DNSPair struct {
	UDP *TransparentUDP
	TCP *net.TCPListener
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

// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"tacit/redirect/listen"
)

// TryPort says why gossip couldn't be started at an address.
func TryPort(ctx context.Context, at netip.AddrPort) error {
	tcp, err := listen.Plain(ctx, at)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		return errors.Join(err, tcp.Close())
	}
	return errors.Join(udp.Close(), tcp.Close())
}

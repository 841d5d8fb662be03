// SPDX-License-Identifier: Apache-2.0

// Package listen opens the daemon's sockets: transparent ones, which receive connections and datagrams for addresses that
// are not the host's, and plain ones. A [Reopening] keeps a listener open when others close its socket.
//
// It must not know which packets reach a socket, change a route, rule or chain, or decide what is accepted. Every socket
// belongs to the network namespace of the calling thread.
package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Plain opens a TCP listener that is neither MPTCP, which Go's net.Listen would make and sk_lookup can't assign to, nor
// transparent.
func Plain(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// option is one integer socket option.
type option struct{ level, name, value int }

// transparent lets a socket receive for, and send from, addresses that aren't the host's.
func transparent(v6 bool) option {
	if v6 {
		return option{unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1}
	}
	return option{unix.SOL_IP, unix.IP_TRANSPARENT, 1}
}

// control sets options on a new socket before it is bound.
func control(options []option) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error { return set(c, options) }
}

func set(c syscall.RawConn, options []option) error {
	var err error
	outer := c.Control(func(fd uintptr) {
		for _, o := range options {
			if e := unix.SetsockoptInt(int(fd), o.level, o.name, o.value); e != nil {
				err = fmt.Errorf("set socket option %d of level %d: %w", o.name, o.level, e)
				return
			}
		}
	})
	return errors.Join(outer, err)
}

// loopback is the address that transparent sockets of one family are bound to.
func loopback(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// keepAlive is Go's default for a connection, in seconds.
const keepAlive = 15

// Carried is [Plain] for connections of other hosts that the proxy carries as descriptors.
func Carried(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	ln, err := Plain(ctx, at)
	if err != nil {
		return nil, err
	}
	if err := bequeath(ln, true); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// bequeath sets on a listener what each connection needs that it accepts: on Linux a connection inherits its listener's
// options, which saves a system call for each. The client of a remote one may vanish without a word; of a local one the
// kernel knows. Each is reset if the daemon dies with it: FIN would tell the program that what it got is complete. An
// urgent byte stays in its place in the stream: else it would be lost.
func bequeath(ln *net.TCPListener, remote bool) error {
	options := []option{{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, {unix.SOL_SOCKET, unix.SO_OOBINLINE, 1}}
	if remote {
		options = append(options, option{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			option{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAlive}, option{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAlive})
	}
	raw, err := ln.SyscallConn()
	if err == nil {
		err = set(raw, options)
	}
	if err == nil {
		err = errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		}), err)
	}
	if err != nil {
		return fmt.Errorf("set what connections to %s inherit: %w", ln.Addr(), err)
	}
	return nil
}

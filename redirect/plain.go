// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"net"
	"net/netip"
	"os"
)

// HasIPv6 reports whether this host's kernel has IPv6.
func HasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// Loopbacks are 127.0.0.1 and ::1.
func Loopbacks() [2]netip.Addr { return [2]netip.Addr{loopback(false), loopback(true)} }

// ListenPlain opens a TCP listener that is neither MPTCP, which Go's net.Listen would make and sk_lookup can't assign
// to, nor transparent.
func ListenPlain(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

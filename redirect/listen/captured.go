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

// Pair holds the listeners of both families for captured connections. The local address of what they accept is the
// original destination.
type Pair struct {
	TCP4 *net.TCPListener
	TCP6 *net.TCPListener // nil without IPv6
}

// Names of the listeners for captured connections among inherited ones.
const (
	Captured4 = "captured IPv4"
	Captured6 = "captured IPv6"
)

// CapturedPair takes the inherited listeners, or opens the listener of [Captured] for IPv4 and, with ipv6, the one for IPv6.
func CapturedPair(ctx context.Context, ipv6 bool, from *Inherited) (p *Pair, err error) {
	p = &Pair{TCP4: from.TCP(Captured4)}
	if p.TCP4 == nil {
		if p.TCP4, err = Captured(ctx, false); err != nil {
			return nil, err
		}
	}
	if !ipv6 {
		return p, nil
	}
	if p.TCP6 = from.TCP(Captured6); p.TCP6 == nil {
		if p.TCP6, err = Captured(ctx, true); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	return p, nil
}

// Captured opens a listener for captured connections on 127.0.0.1, or on ::1 with v6, on a free port. It is transparent (a
// captured connection may be for any address), not MPTCP (sk_lookup can't assign to an MPTCP socket), and accepts at once:
// without TCP_DEFER_ACCEPT, which waits for the client's first bytes, and without Fast Open, which delivers bytes before the
// decision. Needs CAP_NET_ADMIN.
func Captured(ctx context.Context, v6 bool) (*net.TCPListener, error) {
	return listenTCP(ctx, netip.AddrPortFrom(loopback(v6), 0))
}

// Ports returns the ports of TCP4 and TCP6; 0 without a listener.
func (p *Pair) Ports() (port4, port6 uint16) {
	return tcpPort(p.TCP4), tcpPort(p.TCP6)
}

// Close closes both listeners.
func (p *Pair) Close() error {
	err := p.TCP4.Close()
	if p.TCP6 != nil {
		err = errors.Join(err, p.TCP6.Close())
	}
	return err
}

func listenTCP(ctx context.Context, addr netip.AddrPort) (*net.TCPListener, error) {
	config := net.ListenConfig{Control: control(tcpOptions(addr.Addr().Is6())), KeepAlive: -1}
	config.SetMultipathTCP(false)
	ln, err := config.Listen(ctx, "tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("listen transparently on %s (needs CAP_NET_ADMIN): %w", addr, err)
	}
	tcp := ln.(*net.TCPListener)
	// The sysctl tcp_fastopen can turn Fast Open on in listen(2), so it is turned off afterwards.
	raw, err := tcp.SyscallConn()
	if err == nil {
		err = set(raw, []option{{unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 0}})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("turn off tcp fast open on %s: %w", addr, err), tcp.Close())
	}
	if err := bequeath(tcp, false); err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return tcp, nil
}

func tcpOptions(v6 bool) []option {
	return []option{{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}, transparent(v6), {unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 0}}
}

func tcpPort(ln *net.TCPListener) uint16 {
	if ln == nil {
		return 0
	}
	return ln.Addr().(*net.TCPAddr).AddrPort().Port()
}

// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// dnsTries is how many free UDP ports are tried until one is free for TCP too.
const dnsTries = 16

// Listeners are the sockets that receive captured connections. The local address of what they accept is the original
// destination.
type Listeners struct {
	TCP4 *net.TCPListener
	TCP6 *net.TCPListener // nil without IPv6
}

// Listen opens the proxy's listeners on 127.0.0.1 and, with v6, on ::1, each on a free port. They are transparent (a
// captured connection may be for any address), not MPTCP (sk_lookup can't assign to an MPTCP socket), and accept at once:
// without TCP_DEFER_ACCEPT, which waits for the client's first bytes, and without Fast Open, which delivers bytes before the
// decision.
func Listen(ctx context.Context, v6 bool) (*Listeners, error) {
	tcp4, err := ListenCaptured(ctx, false)
	if err != nil {
		return nil, err
	}
	l := &Listeners{TCP4: tcp4}
	if !v6 {
		return l, nil
	}
	if l.TCP6, err = ListenCaptured(ctx, true); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// ListenCaptured opens one of the two listeners of [Listen] again: another process has closed the first one, or it belongs
// to a cgroup that was removed.
func ListenCaptured(ctx context.Context, v6 bool) (*net.TCPListener, error) {
	return listenTCP(ctx, netip.AddrPortFrom(loopback(v6), 0))
}

// Ports returns the ports of TCP4 and TCP6, for [Config.Port4] and [Config.Port6]; 0 without a listener.
func (l *Listeners) Ports() (port4, port6 uint16) {
	return tcpPort(l.TCP4), tcpPort(l.TCP6)
}

// Close closes both listeners.
func (l *Listeners) Close() error {
	err := l.TCP4.Close()
	if l.TCP6 != nil {
		err = errors.Join(err, l.TCP6.Close())
	}
	return err
}

// DNSListener receives captured DNS of one family, UDP and TCP on the same port.
type DNSListener struct {
	UDP *TransparentUDP
	TCP *net.TCPListener
}

// ListenDNS opens the transparent DNS listeners on 127.0.0.1, or on ::1 with v6.
func ListenDNS(ctx context.Context, v6 bool) (*DNSListener, error) {
	var last error
	for range dnsTries {
		udp, err := ListenTransparentUDP(ctx, v6)
		if err != nil {
			return nil, err
		}
		tcp, err := listenTCP(ctx, udp.LocalAddr())
		if err == nil {
			return &DNSListener{UDP: udp, TCP: tcp}, nil
		}
		last = errors.Join(err, udp.Close())
	}
	return nil, fmt.Errorf("no port is free for both UDP and TCP: %w", last)
}

// Port is for [Config.DNSPort4] or [Config.DNSPort6].
func (l *DNSListener) Port() uint16 { return l.UDP.LocalAddr().Port() }

// Close closes both sockets.
func (l *DNSListener) Close() error { return errors.Join(l.UDP.Close(), l.TCP.Close()) }

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
	return tcp, nil
}

// option is one integer socket option.
type option struct{ level, name, value int }

func tcpOptions(v6 bool) []option {
	return []option{{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}, transparent(v6), {unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 0}}
}

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

func tcpPort(ln *net.TCPListener) uint16 {
	if ln == nil {
		return 0
	}
	return ln.Addr().(*net.TCPAddr).AddrPort().Port()
}

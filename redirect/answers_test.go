// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAnswers: a program at a loopback address that was called from the address of another host answers to the caller, in
// spite of a rule that masquerades that address, and what others send from the program's address fails as before.
func TestAnswers(t *testing.T) {
	for _, tproxy := range []bool{true, false} {
		t.Run(fmt.Sprintf("tproxy %v", tproxy), func(t *testing.T) {
			enter(t)
			newElsewhere(t).join(t)
			var ports []uint16
			var listeners []net.Listener
			for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
				ln, err := net.Listen("tcp", addr)
				must(t, err)
				defer ln.Close()
				listeners, ports = append(listeners, ln), append(ports, netip.MustParseAddrPort(ln.Addr().String()).Port())
			}
			if tproxy {
				shell(t, "iptables -t nat -A POSTROUTING -s 192.0.2.0/24 ! -o docker0 -j MASQUERADE; ip6tables -t nat -A POSTROUTING -s 2001:db8::/32 ! -o docker0 -j MASQUERADE")
			}
			shell(t, "ip route add 192.0.2.0/24 via 10.9.0.2; ip -6 route add 2001:db8::/32 via fd00:9::2")
			before := snapshot(t)
			for i, from := range []string{"192.0.2.9", "2001:db8::9"} {
				if got, err := echoed(listeners[i], from); err == nil {
					t.Errorf("without the plan: %s answered", got)
				}
			}
			plan := NewPlan(with(func(c *Config) { c.TPROXY, c.Answers = tproxy, ports }))
			must(t, Apply(plan))
			for i, from := range []string{"192.0.2.9", "2001:db8::9"} {
				if got, err := echoed(listeners[i], from); err != nil || got != from {
					t.Errorf("the program saw %q, %v; want %s", got, err, from)
				}
			}
			if err := dialFrom("127.0.0.1", "192.0.2.1:9"); err == nil {
				t.Error("another program reached an address of another host from 127.0.0.1")
			}
			shell(t, fmt.Sprintf("ip rule del priority 1160 sport %d", ports[0]))
			if lines, err := Drift(plan); err != nil || !strings.Contains(strings.Join(lines, "\n"), fmt.Sprintf("from 127.0.0.0/8 ipproto tcp sport %d", ports[0])) {
				t.Errorf("drift = %q, %v", lines, err)
			}
			must(t, Cleanup())
			if got := snapshot(t); got != before {
				t.Errorf("cleanup left or took something:\n%s", difflines(before, got))
			}
		})
	}
}

// dialer has sockets that need not be of this host, and whose port connect() chooses.
func dialer(from string) net.Dialer {
	return net.Dialer{Timeout: 300 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)},
		Control: func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1) // a failure shows in bind()
			})
		}}
}

func dialFrom(from, to string) error {
	d := dialer(from)
	conn, err := d.Dial("tcp", to)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

// echoed calls a listener from an address, and returns the address that the listener saw and sent back.
func echoed(ln net.Listener, from string) (string, error) {
	d := dialer(from)
	conn, err := d.Dial("tcp", ln.Addr().String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	there, err := ln.Accept()
	if err != nil {
		return "", err
	}
	_, err = io.WriteString(there, there.RemoteAddr().(*net.TCPAddr).IP.String())
	_ = there.Close()
	if err != nil {
		return "", err
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	seen, err := io.ReadAll(conn)
	return string(seen), err
}

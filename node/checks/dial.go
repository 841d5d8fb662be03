// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"tacit/node/definition"
	"tacit/node/seen"
	"tacit/redirect/netns"
)

// run is one run of a check, until ctx ends.
func (m *Manager) run(ctx context.Context, c *check) (status, output string) {
	switch c.Kind {
	case definition.CheckTCP:
		status, output = m.tryTCP(ctx, c)
	case definition.CheckHTTP:
		status, output = m.tryHTTP(ctx, c)
	case definition.CheckGRPC:
		status, output = m.tryGRPC(ctx, c)
	case definition.CheckScript:
		return m.tryScript(ctx, c)
	default:
		return critical(fmt.Errorf("%s checks don't run", c.Kind))
	}
	if status == definition.StatusCritical && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		output = fmt.Sprintf("no answer within %s: %s", c.Timeout, output)
	}
	return status, output
}

func critical(err error) (status, output string) { return definition.StatusCritical, err.Error() }

func (m *Manager) tryTCP(ctx context.Context, c *check) (status, output string) {
	conn, err := m.dial(ctx, c)
	if err != nil {
		return critical(err)
	}
	_ = conn.Close()
	return definition.StatusPassing, fmt.Sprintf("%s: connected", conn.RemoteAddr())
}

// dial connects to the instance, whatever name a URL has.
func (m *Manager) dial(ctx context.Context, c *check) (net.Conn, error) {
	targets, in, err := m.targets(c)
	if err != nil {
		return nil, err
	}
	var failed []string
	for _, to := range targets {
		conn, err := m.connect(ctx, c, to, in)
		if err == nil {
			return conn, nil
		}
		if conn != nil {
			_ = conn.Close()
		}
		failed = append(failed, err.Error())
	}
	return nil, errors.New(strings.Join(failed, "; "))
}

// connect connects to one target, with a tag where that is the instance's port.
func (m *Manager) connect(ctx context.Context, c *check, to netip.AddrPort, in netns.Namespace) (conn net.Conn, err error) {
	err = in.Do(func(leave func() error) (err error) {
		d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
			if to.Port() != c.port {
				return leave()
			}
			var err error
			return errors.Join(leave(), raw.Control(func(fd uintptr) { err = m.conf.Tag(int(fd), c.service) }), err)
		}}
		d.SetMultipathTCP(false)
		conn, err = d.DialContext(ctx, "tcp", to.String())
		return err
	})
	if err == nil && c.proxied && to.Port() == c.port {
		_, err = conn.Write(seen.OwnHeader()) // it fits into the socket's buffer
	}
	return conn, err
}

// targets are where the check connects to, in order: where the instance really
// listens if its own port is meant, else in the same network namespace.
func (m *Manager) targets(c *check) (to []netip.AddrPort, in netns.Namespace, err error) {
	host, port, err := c.Endpoint()
	if err != nil {
		return nil, in, err
	}
	at, in, err := m.conf.Target(c.instance)
	if port == 0 || port == c.port {
		return at, in, err
	}
	if host == "localhost" {
		v4, v6 := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
		return []netip.AddrPort{netip.AddrPortFrom(v4, port), netip.AddrPortFrom(v6, port)}, in, nil
	}
	a, err := netip.ParseAddr(host)
	return []netip.AddrPort{netip.AddrPortFrom(a, port)}, in, err
}

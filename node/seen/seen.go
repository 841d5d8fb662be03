// SPDX-License-Identifier: Apache-2.0

// Package seen connects to a program of this node so that the program sees who
// calls: the socket has the virtual address of the calling service or, where the
// program wants that, the caller's own, or a PROXY protocol header comes first. It
// must not decide who may call.
package seen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tacit/identity"
	"tacit/node/definition"
	"tacit/redirect/netns"
)

const timeout = 5 * time.Second

// Call is a connection that is allowed.
type Call struct {
	Source, Destination identity.Name
	Node                identity.Name   // of the caller; "" for a caller on this node
	Client              netip.AddrPort  // of the calling program, on its own node
	To                  netip.AddrPort  // where the program listens ...
	In                  netns.Namespace // ... and in which network namespace
	Show                definition.ClientAddress
	Outside             bool // To is another host, which sees this node's own address
}

// Dialer connects to programs, and to services outside of the mesh.
type Dialer struct {
	Virtual     func(identity.Name) (v4, v6 netip.Addr) // addresses of a service on this node
	ID          func(identity.Name) string              // its SPIFFE ID
	Local       func(netip.Addr) bool                   // this host's own and virtual addresses
	Host        func(node identity.Name) netip.Addr     // another node's address, zero if there is none
	Tag         func(fd int, source, destination identity.Name) error
	Transparent bool // the TPROXY backend, whose rules take only answers for transparent sockets
}

// Dial connects to the program. Errors: what the kernel says, and a source
// without a virtual address.
func (d Dialer) Dial(ctx context.Context, c Call) (*net.TCPConn, error) {
	var conn net.Conn
	err := c.In.Do(func(leave func() error) (err error) {
		nd := net.Dialer{Timeout: timeout, Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			return errors.Join(leave(), raw.Control(func(fd uintptr) { err = d.prepare(int(fd), c) }), err)
		}}
		nd.SetMultipathTCP(false)
		conn, err = nd.DialContext(ctx, "tcp", c.To.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	tcp := conn.(*net.TCPConn)
	if c.Show == definition.ClientProxyProtocol {
		if _, err := tcp.Write(header(d.client(c), c.To, d.ID(c.Source))); err != nil {
			return nil, errors.Join(err, tcp.Close())
		}
	}
	return tcp, nil
}

// prepare makes a socket the caller's, before it connects.
func (d Dialer) prepare(fd int, c Call) error {
	if err := d.Tag(fd, c.Source, c.Destination); err != nil {
		return err
	}
	if c.Show == definition.ClientLoopback || c.Outside {
		return nil
	}
	at, foreign := d.address(c)
	if !at.IsValid() {
		return fmt.Errorf("%s has no virtual address on this node", c.Source)
	}
	if c.In != (netns.Namespace{}) {
		return bindInner(fd, at)
	}
	if err := bind(fd, at, foreign || d.Transparent); err != nil {
		return fmt.Errorf("bind to %s, the address of %s: %w", at, c.Source, err)
	}
	return nil
}

// virtual is the source's address in the family of the program.
func (d Dialer) virtual(c Call) netip.Addr {
	v4, v6 := d.Virtual(c.Source)
	if c.To.Addr().Unmap().Is4() {
		return v4
	}
	return v6
}

// bind leaves the port to connect(), which finds one for each pair of
// addresses; bind() would take one from all connections of the source. The
// kernel treats a local route as an address of the host for IPv4 only: IPv6
// needs IP_FREEBIND (ip(7)), which IP_TRANSPARENT implies. Both hold for either
// family. Another host's address needs IP_TRANSPARENT.
func bind(fd int, at netip.Addr, transparent bool) error {
	options := []int{unix.IP_BIND_ADDRESS_NO_PORT}
	switch {
	case transparent:
		options = append(options, unix.IP_TRANSPARENT)
	case at.Is6():
		options = append(options, unix.IP_FREEBIND)
	}
	for _, option := range options {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, option, 1); err != nil {
			return err
		}
	}
	if at.Is4() {
		return unix.Bind(fd, &unix.SockaddrInet4{Addr: at.As4()})
	}
	return unix.Bind(fd, &unix.SockaddrInet6{Addr: at.As16()})
}

// client is the caller's own address for the header. A caller that reached its
// daemon by loopback has none that means anything here: its service's counts.
func (d Dialer) client(c Call) netip.AddrPort {
	if c.Client.IsValid() && !c.Client.Addr().Unmap().IsLoopback() {
		return c.Client
	}
	return netip.AddrPortFrom(d.virtual(c), c.Client.Port())
}

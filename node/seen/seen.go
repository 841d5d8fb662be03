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
	"os"

	"golang.org/x/sys/unix"

	"tacit/identity"
	"tacit/node/definition"
	"tacit/redirect/netns"
	"tacit/tproxy/socket"
)

const keepAlive = 15 // seconds

// Call is a connection that is allowed.
type Call struct {
	Source, Destination identity.Name
	Node                identity.Name   // of the caller; "" for a caller on this node
	Client              netip.AddrPort  // of the calling program, on its own node
	To                  netip.AddrPort  // where the program listens ...
	In                  netns.Namespace // ... and in which network namespace
	Show                definition.ClientAddress
	Outside             bool // To is another host, which sees this node's own address
	Owned               bool // the kernel refuses a listener that isn't surely Destination's
}

// Dialer connects to programs, and to services outside of the mesh.
type Dialer struct {
	Virtual     func(identity.Name) (v4, v6 netip.Addr) // addresses of a service on this node
	ID          func(identity.Name) string              // its SPIFFE ID
	Local       func(netip.Addr) bool                   // this host's own and virtual addresses
	Host        func(node identity.Name) netip.Addr     // another node's address, zero if there is none
	Tag         func(fd int, source, destination identity.Name, owned bool) error
	Transparent bool // the TPROXY backend, whose rules take only answers for transparent sockets
}

// Dialled is a connection that was begun.
type Dialled struct {
	FD    int    // non-blocking, close-on-exec, in no poller; the caller's
	First []byte // what has to be written first, once the connection is there
}

// Dial begins a connection to the program, and doesn't wait for it. Errors: what the
// kernel says, and a source without a virtual address.
func (d Dialer) Dial(c Call) (Dialled, error) {
	fd := -1
	err := c.In.Do(func(leave func() error) (err error) {
		if fd, err = socket.Make(c.To.Addr()); err != nil {
			return err
		}
		if err := leave(); err != nil {
			return err
		}
		return d.connect(fd, c)
	})
	if err != nil {
		if fd >= 0 {
			socket.Close(fd)
		}
		return Dialled{FD: -1}, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(c.To), Err: err}
	}
	out := Dialled{FD: fd}
	if c.Show == definition.ClientProxyProtocol {
		out.First = header(d.client(c), c.To, d.ID(c.Source))
	}
	return out, nil
}

// Wait returns a connection that was begun when it is there, by another descriptor.
// Where there is none, or ctx ends, d is closed.
func (d Dialled) Wait(ctx context.Context) (Dialled, error) {
	f, err := socket.Await(ctx, d.FD)
	if err != nil {
		return Dialled{FD: -1}, err
	}
	raw, err := f.SyscallConn()
	if err == nil {
		err = errors.Join(raw.Control(func(fd uintptr) { d.FD, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }), err)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return Dialled{FD: -1}, err
	}
	return d, nil
}

// connect begins to connect.
func (d Dialer) connect(fd int, c Call) error {
	if err := d.prepare(fd, c); err != nil {
		return err
	}
	for _, o := range options(c) {
		if err := socket.Set(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	if err := socket.Connect(fd, c.To); err != nil || c.Outside || c.Owned {
		return err // another host answers later; where Owned is set, somebody listens
	}
	// why there is no connection to a program of this host is mostly known by now
	return os.NewSyscallError("connect", socket.Error(fd))
}

type option struct{ level, name, value int }

// options are those that Go sets for its own connections, and one that keeps a byte that
// was sent as urgent in its place in the stream. The kernel knows by itself when a program
// of this host is gone, so only other hosts are asked.
func options(c Call) []option {
	all := []option{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, {unix.SOL_SOCKET, unix.SO_OOBINLINE, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAlive}, {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAlive},
	}
	if !c.Outside {
		return all[:2]
	}
	return all
}

// Refused reports whether an error of Dial says that no program took the connection: the
// kernel refused it, or the network namespace is gone.
func Refused(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, netns.ErrGone)
}

// prepare makes a socket the caller's, before it connects.
func (d Dialer) prepare(fd int, c Call) error {
	if err := d.Tag(fd, c.Source, c.Destination, c.Owned); err != nil {
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
		if err := socket.Set(fd, unix.IPPROTO_IP, option, 1); err != nil {
			return err
		}
	}
	return socket.Bind(fd, at)
}

// client is the caller's own address for the header. A caller that reached its
// daemon by loopback has none that means anything here: its service's counts.
func (d Dialer) client(c Call) netip.AddrPort {
	if c.Client.IsValid() && !c.Client.Addr().Unmap().IsLoopback() {
		return c.Client
	}
	return netip.AddrPortFrom(d.virtual(c), c.Client.Port())
}

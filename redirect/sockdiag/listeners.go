// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrNoSocket says that this network namespace has no socket with the addresses asked for.
var ErrNoSocket = errors.New("no such connection")

// Listener is one listening TCP socket.
type Listener struct {
	Addr     netip.AddrPort // unspecified: every address of the host
	CgroupID uint64         // cgroup v2 in which the socket was created; with socket activation, the service manager's
	UID      uint32
	Inode    uint32
	V6Only   bool // IPV6_V6ONLY; without it, a socket on [::] takes IPv4 connections too
}

// ListenersOn returns every TCP socket that listens on port in the caller's network namespace, IPv4 ones first. Several
// sockets can listen on one address (SO_REUSEPORT); the kernel chooses one for each connection. A call takes tens of
// microseconds, most of it for the kernel's walk over its table of listeners.
func ListenersOn(port uint16) ([]Listener, error) {
	all, err := listeners(netip.AddrPortFrom(netip.Addr{}, port))
	if err != nil {
		return nil, fmt.Errorf("list listening sockets on port %d: %w", port, err)
	}
	return slices.DeleteFunc(all, func(l Listener) bool { return l.Addr.Port() != port }), nil
}

// Listeners returns every TCP socket that listens in the caller's network namespace, IPv4 ones first.
func Listeners() ([]Listener, error) {
	all, err := listeners(netip.AddrPort{})
	if err != nil {
		return nil, fmt.Errorf("list listening sockets: %w", err)
	}
	return all, nil
}

// listeners returns the listening sockets with the port of local, or all of them where it is 0.
func listeners(local netip.AddrPort) (list []Listener, err error) {
	q, err := openQuerier()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		found, err := q.list(request{family: family, states: 1 << stateListen, local: local})
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	return list, nil
}

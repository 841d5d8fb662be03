// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrNoSocket says that no connection has these addresses.
var ErrNoSocket = errors.New("no such connection")

// Listener is one listening TCP socket.
type Listener struct {
	Addr     netip.AddrPort // unspecified address: all of them
	CgroupID uint64         // cgroup v2 in which the socket was created; for a service manager's socket, the manager's
	UID      uint32
	Inode    uint32
	V6Only   bool // false on an IPv6 socket: it takes IPv4 connections too, if its address is unspecified
}

// ListenersOn returns every TCP socket that listens on port in the caller's network namespace, IPv4 ones first. Several
// sockets can listen on one address (SO_REUSEPORT); the kernel chooses among them for each connection. A call takes tens
// of microseconds, most of which the kernel spends on walking its table.
func ListenersOn(port uint16) ([]Listener, error) {
	all, err := listeners(netip.AddrPortFrom(netip.Addr{}, port))
	if err != nil {
		return nil, fmt.Errorf("ask the kernel who listens on port %d: %w", port, err)
	}
	return slices.DeleteFunc(all, func(l Listener) bool { return l.Addr.Port() != port }), nil
}

// Listeners returns every TCP socket that listens in the caller's network namespace, IPv4 ones first.
func Listeners() ([]Listener, error) {
	all, err := listeners(netip.AddrPort{})
	if err != nil {
		return nil, fmt.Errorf("ask the kernel who listens: %w", err)
	}
	return all, nil
}

func listeners(local netip.AddrPort) (list []Listener, err error) {
	d, err := openSockDiag()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		found, err := d.waiting(diagRequest{family: family, states: 1 << stateListen, local: local})
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	return list, nil
}

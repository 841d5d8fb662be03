// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrNoSocket says that no connection has these addresses.
var ErrNoSocket = errors.New("no such connection")

// Listening is one listening TCP socket.
type Listening struct {
	Addr     netip.AddrPort // unspecified address: all of them
	CgroupID uint64         // cgroup v2 in which the socket was created; for a service manager's socket, the manager's
	UID      uint32
	Inode    uint32
	V6Only   bool // false on an IPv6 socket: it takes IPv4 connections too, if its address is unspecified
}

// ListeningOn returns every TCP socket that listens on port in this network namespace, IPv4 ones first. There can be
// several on one address (SO_REUSEPORT), among which the kernel chooses anew for each connection. A call takes tens of microseconds, most of which the kernel walks its table.
func ListeningOn(port uint16) (list []Listening, err error) {
	d, err := openSockDiag()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		request := diagRequest{family: family, states: 1 << stateListen, local: netip.AddrPortFrom(netip.Addr{}, port)}
		sockets, err := dump(func() ([]socket, error) { return d.ask(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, request) })
		if err != nil {
			return nil, fmt.Errorf("ask the kernel who listens on port %d: %w", port, err)
		}
		for _, s := range sockets {
			if s.state == stateListen && s.local.Port() == port {
				list = append(list, Listening{Addr: s.local, CgroupID: s.cgroup, UID: s.uid, Inode: s.inode, V6Only: s.v6only})
			}
		}
	}
	return list, nil
}

// Destroy ends the TCP connection between local and remote in this network namespace: its owner sees ECONNABORTED, the
// peer a reset. [ErrNoSocket] when there's none. Needs CAP_NET_ADMIN and CONFIG_INET_DIAG_DESTROY.
func Destroy(local, remote netip.AddrPort) (err error) {
	d, err := openSockDiag()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	// An IPv6 socket that talks IPv4 is found by its IPv4 addresses.
	request := diagRequest{family: unix.AF_INET, states: allStates, local: unmap(local), remote: unmap(remote), cookie: anyCookie}
	if request.local.Addr().Is6() {
		request.family = unix.AF_INET6
	}
	found, err := d.ask(nl.SOCK_DIAG_BY_FAMILY, 0, request)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("find the connection %s to %s: %w", local, remote, err)
	}
	// The kernel falls back to a listener when the connection is gone: that one must live.
	if len(found) != 1 || found[0].state == stateListen || unmap(found[0].remote) != request.remote {
		return ErrNoSocket
	}
	request.cookie = found[0].cookie
	if _, err := d.ask(nl.SOCK_DESTROY, unix.NLM_F_ACK, request); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("destroy the connection %s to %s: %w", local, remote, err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// States of TCP in which a socket still is what it was connected as (net/tcp_states.h).
const (
	stateFinWait1  = 4
	stateFinWait2  = 5
	stateCloseWait = 8
)

// CallerCgroup returns the cgroup v2 in which a program of this network namespace made the socket that is the other end
// of fd, an accepted TCP connection. [ErrNoSocket] when there's none: the caller is in another namespace, or has gone.
func CallerCgroup(fd int) (uint64, error) {
	local, err := address(unix.Getsockname(fd))
	if err != nil {
		return 0, err
	}
	remote, err := address(unix.Getpeername(fd))
	if err != nil {
		return 0, ErrNoSocket // reset meanwhile
	}
	request := diagRequest{family: unix.AF_INET, states: allStates, local: remote, remote: local, cookie: anyCookie}
	if remote.Addr().Is6() {
		request.family = unix.AF_INET6
	}
	found, err := diag(nl.SOCK_DIAG_BY_FAMILY, 0, request)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return 0, fmt.Errorf("ask the kernel who connected from %s: %w", remote, err)
	}
	if len(found) != 1 || unmap(found[0].remote) != local || found[0].cgroup == 0 || !carries(found[0].state) {
		return 0, ErrNoSocket
	}
	// Asked last: another caller has these addresses only after this connection has ended, and then what it brought, if
	// anything, isn't that caller's.
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State != stateEstablished && info.State != stateCloseWait {
		return 0, ErrNoSocket
	}
	return found[0].cgroup, nil
}

func carries(state uint8) bool {
	return state == stateEstablished || state == stateFinWait1 || state == stateFinWait2 || state == stateCloseWait
}

// address is a socket's address, IPv4 where it is one.
func address(sa unix.Sockaddr, err error) (netip.AddrPort, error) {
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read a connection's addresses: %w", err)
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), nil
	case *unix.SockaddrInet6:
		return unmap(netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))), nil
	}
	return netip.AddrPort{}, fmt.Errorf("not a TCP connection: its address is %T", sa)
}

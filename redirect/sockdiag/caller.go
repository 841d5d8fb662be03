// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// States of TCP (net/tcp_states.h) in which a connected socket still has its addresses and its cgroup.
const (
	stateFinWait1  = 4
	stateFinWait2  = 5
	stateCloseWait = 8
)

// CallerCgroup returns the ID of the cgroup v2 in which the client's socket of fd, an accepted TCP connection, was created.
// [ErrNoSocket]: the client is in another network namespace, or its socket is closed.
func CallerCgroup(fd int) (uint64, error) {
	local, err := address(unix.Getsockname(fd))
	if err != nil {
		return 0, err
	}
	remote, err := address(unix.Getpeername(fd))
	if err != nil {
		return 0, ErrNoSocket // the connection was reset
	}
	request := request{family: unix.AF_INET, states: allStates, local: remote, remote: local, cookie: anyCookie}
	if remote.Addr().Is6() {
		request.family = unix.AF_INET6
	}
	found, err := askOnce(nl.SOCK_DIAG_BY_FAMILY, 0, request)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return 0, fmt.Errorf("find the socket with the address %s: %w", remote, err)
	}
	if len(found) != 1 || unmap(found[0].remote) != local || found[0].cgroup == 0 || !connected(found[0].state) {
		return 0, ErrNoSocket
	}
	// Checked last: another socket can have the client's address only after this connection has ended. While fd is
	// connected, the socket that was found is its peer.
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State != stateEstablished && info.State != stateCloseWait {
		return 0, ErrNoSocket
	}
	return found[0].cgroup, nil
}

// connected says whether a state is one of a connection that isn't over.
func connected(state uint8) bool {
	return state == stateEstablished || state == stateFinWait1 || state == stateFinWait2 || state == stateCloseWait
}

// address turns a socket's address into a netip one; an IPv4-mapped address becomes an IPv4 one.
func address(sa unix.Sockaddr, err error) (netip.AddrPort, error) {
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read the addresses of a connection: %w", err)
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), nil
	case *unix.SockaddrInet6:
		return unmap(netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))), nil
	}
	return netip.AddrPort{}, fmt.Errorf("not a TCP connection: its address is %T", sa)
}

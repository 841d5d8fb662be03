// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const stateEstablished = 1 // TCP_ESTABLISHED, net/tcp_states.h

// Connection is one end of an established TCP connection: the socket in this network namespace, listeners left out.
type Connection struct {
	Local, Remote netip.AddrPort // IPv4 addresses also where the socket is an IPv6 one
	Cookie        uint64         // what bpf_get_socket_cookie returns: no other socket has it, until the next boot
	Inode         uint32         // as in socket:[N] below /proc/PID/fd
	CgroupID      uint64         // cgroup v2 in which the socket was created, or its listener
}

// EstablishedOn returns the TCP connections established with port, on this side, of this network namespace.
func EstablishedOn(port uint16) ([]Connection, error) {
	var out []Connection
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := dump(func() ([]socket, error) {
			return diag(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, diagRequest{family: family, states: 1 << stateEstablished, local: netip.AddrPortFrom(netip.Addr{}, port)})
		})
		if err != nil {
			return nil, fmt.Errorf("ask the kernel who is connected to port %d: %w", port, err)
		}
		for _, s := range sockets {
			if s.local.Port() == port {
				out = append(out, Connection{Local: unmap(s.local), Remote: unmap(s.remote), Cookie: s.cookie, Inode: s.inode, CgroupID: s.cgroup})
			}
		}
	}
	return out, nil
}

// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const stateEstablished = 1 // TCP_ESTABLISHED, net/tcp_states.h

// Connection is one end of an established TCP connection: a socket of this network namespace.
type Connection struct {
	Local, Remote netip.AddrPort // IPv4-mapped addresses as IPv4
	Cookie        uint64         // as bpf_get_socket_cookie returns it; unique until the next boot
	Inode         uint32         // N in the link socket:[N] in /proc/PID/fd
	CgroupID      uint64         // cgroup v2 in which the socket, or the listener that accepted it, was created
}

// EstablishedOn returns the established TCP connections of this network namespace whose local port is port.
func EstablishedOn(port uint16) ([]Connection, error) {
	var out []Connection
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := dump(func() ([]socket, error) {
			return askOnce(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, request{family: family, states: 1 << stateEstablished, local: netip.AddrPortFrom(netip.Addr{}, port)})
		})
		if err != nil {
			return nil, fmt.Errorf("list connections to port %d: %w", port, err)
		}
		for _, s := range sockets {
			if s.local.Port() == port {
				out = append(out, Connection{Local: unmap(s.local), Remote: unmap(s.remote), Cookie: s.cookie, Inode: s.inode, CgroupID: s.cgroup})
			}
		}
	}
	return out, nil
}

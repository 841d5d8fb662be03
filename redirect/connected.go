// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const stateEstablished = 1 // TCP_ESTABLISHED, net/tcp_states.h

// ConnectedTo returns the remote ends of the TCP connections established with
// port of this network namespace.
func ConnectedTo(port uint16) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := dump(func() ([]socket, error) {
			return diag(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, diagRequest{family: family, states: 1 << stateEstablished, local: netip.AddrPortFrom(netip.Addr{}, port)})
		})
		if err != nil {
			return nil, fmt.Errorf("ask the kernel who is connected to port %d: %w", port, err)
		}
		for _, s := range sockets {
			if s.local.Port() == port {
				out = append(out, unmap(s.remote))
			}
		}
	}
	return out, nil
}

// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Bound are the sockets of this network namespace that any peer can send to: listening TCP sockets, and UDP sockets that
// are bound and not connected.
type Bound struct{ TCP, UDP []Listener }

// BoundSockets returns all of them, with two requests per address family.
func BoundSockets() (b Bound, err error) {
	q, err := openQuerier()
	if err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		tcp, err := q.list(request{family: family, states: 1 << stateListen})
		if err != nil {
			return b, fmt.Errorf("list listening TCP sockets: %w", err)
		}
		udp, err := q.list(request{family: family, states: 1 << stateUnconnected, udp: true})
		if err != nil {
			return b, fmt.Errorf("list UDP sockets (is the module udp_diag loaded? modprobe udp_diag): %w", err)
		}
		b.TCP, b.UDP = append(b.TCP, tcp...), append(b.UDP, udp...)
	}
	return b, nil
}

const stateUnconnected = 7 // TCP_CLOSE: the state of a UDP socket without a peer

// list returns the sockets that match r.
func (q *querier) list(r request) ([]Listener, error) {
	sockets, err := dump(func() ([]socket, error) { return q.ask(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, r) })
	if err != nil {
		return nil, err
	}
	out := make([]Listener, 0, len(sockets))
	for _, s := range sockets {
		out = append(out, Listener{Addr: s.local, CgroupID: s.cgroup, UID: s.uid, Inode: s.inode, V6Only: s.v6only})
	}
	return out, nil
}

// Reaches says whether the kernel can deliver to l what is sent to the address at.
func (l Listener) Reaches(at netip.AddrPort) bool {
	own, to := l.Addr.Addr().Unmap(), at.Addr().Unmap()
	if l.Addr.Port() != at.Port() {
		return false
	}
	if own.IsUnspecified() {
		return own.Is4() == to.Is4() || own.Is6() && !l.V6Only
	}
	return own == to
}

// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Bound are the sockets of this network namespace that wait for others: TCP ones that listen, and UDP ones that aren't
// connected.
type Bound struct{ TCP, UDP []Listener }

// BoundSockets asks the kernel for all of them.
func BoundSockets() (b Bound, err error) {
	d, err := openSockDiag()
	if err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		tcp, err := d.waiting(diagRequest{family: family, states: 1 << stateListen})
		if err != nil {
			return b, fmt.Errorf("ask the kernel who listens: %w", err)
		}
		udp, err := d.waiting(diagRequest{family: family, states: 1 << stateUnconnected, udp: true})
		if err != nil {
			return b, fmt.Errorf("ask the kernel who receives datagrams (modprobe udp_diag?): %w", err)
		}
		b.TCP, b.UDP = append(b.TCP, tcp...), append(b.UDP, udp...)
	}
	return b, nil
}

const stateUnconnected = 7 // TCP_CLOSE, which a UDP socket without a peer is in

func (d *sockDiag) waiting(r diagRequest) ([]Listener, error) {
	sockets, err := dump(func() ([]socket, error) { return d.ask(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, r) })
	if err != nil {
		return nil, err
	}
	out := make([]Listener, 0, len(sockets))
	for _, s := range sockets {
		out = append(out, Listener{Addr: s.local, CgroupID: s.cgroup, UID: s.uid, Inode: s.inode, V6Only: s.v6only})
	}
	return out, nil
}

// Reaches says whether what is sent to at could arrive at l.
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

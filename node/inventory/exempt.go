// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"net/netip"
	"slices"

	"tacit/redirect/sockdiag"
)

// exempt are the plain connections that stay although their port has become a
// service's: the sessions in which operators work on this host.
type exempt struct {
	kept  setting
	conns []exemptConn
}

type exemptConn struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	Cookie uint64         `json:"cookie"` // of its socket; no other socket has it until the next boot
}

func exemption(c sockdiag.Connection) exemptConn { return exemptConn{c.Local, c.Remote, c.Cookie} }

// peers returns the remote ends of those that are still there, and forgets the
// others. It asks the kernel once for each port.
func (e *exempt) peers() []netip.AddrPort {
	if len(e.conns) == 0 {
		return nil
	}
	asked := map[uint16]func(exemptConn) bool{}
	var out []netip.AddrPort
	left := e.conns[:0:0]
	for _, c := range e.conns {
		port := c.Local.Port()
		if asked[port] == nil {
			asked[port] = alive(port)
		}
		if asked[port](c) {
			left, out = append(left, c), append(out, c.Remote)
		}
	}
	e.kept.dirty = e.kept.dirty || len(left) < len(e.conns)
	e.conns = left
	return out
}

// alive returns the test whether a connection to the port is still there. One
// that can't be looked at stays.
func alive(port uint16) func(exemptConn) bool {
	conns, err := sockdiag.EstablishedOn(port)
	return func(c exemptConn) bool {
		return err != nil || slices.ContainsFunc(conns, func(now sockdiag.Connection) bool { return exemption(now) == c })
	}
}

// Exempt keeps connections from being cut when their port becomes a service's,
// over a restart too. The next Look finds them.
func (i *Inventory) Exempt(conns []sockdiag.Connection) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, c := range conns {
		if one := exemption(c); !slices.Contains(i.exempt.conns, one) {
			i.exempt.conns, i.exempt.kept.dirty = append(i.exempt.conns, one), true
		}
	}
	return i.exempt.kept.save(i.exempt.conns)
}

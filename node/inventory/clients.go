// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"net/netip"
	"slices"

	"tacit/node/inventory/sessions"
	"tacit/redirect/sockdiag"
)

// PlainClients lists the connections to a port that the mesh doesn't carry.
// own are those by which the person at the process pid works on this host; pid
// 0 is nobody. They are not in plain.
func (i *Inventory) PlainClients(port uint16, pid int) (plain, own []sockdiag.Connection, err error) {
	if port == 0 {
		return nil, nil, nil
	}
	conns, err := sockdiag.EstablishedOn(port)
	if err != nil {
		return nil, nil, err
	}
	own = sessions.Of(pid, conns)
	for _, c := range conns {
		if !slices.Contains(own, c) && !i.carries(c) {
			plain = append(plain, c)
		}
	}
	return plain, own, nil
}

// carries reports whether a connection's other end is the daemon's, or that of
// a workload of this node, whose connections are judged.
func (i *Inventory) carries(c sockdiag.Connection) bool {
	if !c.Remote.Addr().IsLoopback() && c.Remote.Addr() != c.Local.Addr() && !i.virtual(c.Remote.Addr()) {
		return false // of another host
	}
	others, _ := sockdiag.EstablishedOn(c.Remote.Port()) // without an answer the connection is plain
	k := slices.IndexFunc(others, func(o sockdiag.Connection) bool { return o.Local == c.Remote && o.Remote == c.Local })
	if k < 0 {
		return false
	}
	maker := others[k].CgroupID
	if id, err := i.conf.Tree.DaemonID(); err == nil && maker == id {
		return true
	}
	return slices.ContainsFunc(i.View().Services, func(s Service) bool { return s.holds(maker) })
}

// virtual reports whether a is a virtual address, to which only the daemon and
// the hooks bind a caller's socket.
func (i *Inventory) virtual(a netip.Addr) bool {
	return i.conf.Settings.Range4.Contains(a.Unmap()) || i.conf.Settings.Range6.Contains(a)
}

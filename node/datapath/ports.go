// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"tacit/node/health"
	"tacit/redirect/links"
	"tacit/redirect/sockdiag"
)

// port is an address where the daemon waits for others.
type port struct {
	name string
	udp  bool
	at   netip.AddrPort
}

func (p port) String() string {
	if p.udp {
		return fmt.Sprintf("%s (udp %s)", p.name, p.at)
	}
	return fmt.Sprintf("%s (tcp %s)", p.name, p.at)
}

// ports are all of them but those for the resolvers' queries, which can be
// opened elsewhere.
func (d *Datapath) ports() []port {
	s := d.conf.Settings
	gossip := netip.AddrPortFrom(s.Addr, s.GossipPort)
	out := []port{{"lane port", false, netip.AddrPortFrom(s.Addr, s.LanePort)}, {"gossip port", false, gossip}, {"gossip port", true, gossip}}
	d.mu.Lock()
	captured4, captured6 := d.listeners.Ports()
	d.mu.Unlock()
	direct4, direct6 := d.resolvers.directPorts()
	for i, loopback := range links.Loopbacks() {
		if p := [2]uint16{captured4, captured6}[i]; p != 0 {
			out = append(out, port{"captured connections", false, netip.AddrPortFrom(loopback, p)})
		}
		if p := [2]uint16{direct4, direct6}[i]; p != 0 {
			at := netip.AddrPortFrom(loopback, p)
			out = append(out, port{"names of other namespaces", false, at}, port{"names of other namespaces", true, at})
		}
	}
	return out
}

// watchPorts asks the kernel whose sockets are where the daemon's must be:
// exactly one each, made in the daemon's cgroup.
func (d *Datapath) watchPorts() {
	bound, err := sockdiag.BoundSockets()
	if err != nil {
		d.conf.Health.Set(health.Ports, "", err)
		return
	}
	var bad []string
	for _, p := range d.ports() {
		if err := holds(bound, p, d.place.made); err != nil {
			bad = append(bad, err.Error())
		}
	}
	for _, addr := range d.resolvers.lost(func(p port) bool { return holds(bound, p, d.place.made) != nil }) {
		if err := d.resolvers.renew(addr); err != nil {
			bad = append(bad, err.Error())
			continue
		}
		d.conf.Log.Warn("a listener for names was closed by others; it is open again", "resolver", addr)
		d.conf.Health.Repaired("listener for the names of "+addr.String(), "closed by others")
	}
	if len(bad) > 0 {
		err = errors.New(strings.Join(bad, "; "))
	}
	d.conf.Health.Set(health.Ports, "", err)
}

// holds is nil when what arrives at p arrives at one socket of ours.
func holds(b sockdiag.Bound, p port, ours func(cgroup uint64) bool) error {
	list := b.TCP
	if p.udp {
		list = b.UDP
	}
	n := 0
	for _, s := range list {
		switch {
		case !s.Reaches(p.at):
		case ours(s.CgroupID):
			n++
		default:
			return fmt.Errorf("%s is held by another program: uid %d, cgroup %d; ss -lnp says which", p, s.UID, s.CgroupID)
		}
	}
	if n != 1 {
		return fmt.Errorf("%s: the daemon has %d sockets there instead of one: others have closed it, restart tacitd", p, n)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
)

// Container adds a network namespace behind the host, as a container has one: a
// veth pair (the host's end is called box1, box2, …) with a /30 and a default
// route through it. Its processes run in the host's child cgroup of that name.
// The host doesn't forward.
func (h *Host) Container(t testing.TB, name string) *Host {
	t.Helper()
	return h.inside(t, name, h.CgroupPath(name))
}

// Guest is a Container whose processes are outside of the host's cgroup tree,
// where no hook sees them, like those of a virtual machine.
func (h *Host) Guest(t testing.TB, name string) *Host {
	t.Helper()
	return h.inside(t, name, filepath.Join(h.net.cgroup, h.Name+"."+name))
}

func (h *Host) inside(t testing.TB, name, cgroup string) *Host {
	t.Helper()
	h.mu.Lock()
	h.parts++
	i := h.parts
	h.mu.Unlock()
	c := h.net.newHost(h.Name+"."+name, "")
	c.Cgroup = cgroup
	subnet4 := [4]byte{10, 88, h.Addr.As4()[3], byte(4 * i)}
	subnet6 := [16]byte{0: 0xfd, 1: 0x88, 7: h.Addr.As4()[3], 9: byte(i)}
	outer4, outer6 := netip.AddrFrom4(subnet4).Next(), netip.AddrFrom16(subnet6).Next()
	c.Addr = outer4.Next()
	veth := fmt.Sprintf("box%d", i)
	inside := []string{"link set lo up", "link add eth0 type veth peer name " + veth + " netns " + h.namespace}
	outside := []string{fmt.Sprintf("addr add %s/30 dev %s", outer4, veth), "link set " + veth + " up"}
	routes := []string{fmt.Sprintf("route add default via %s dev eth0", outer4)}
	if h.net.v6 {
		c.Addr6 = outer6.Next()
		outside = append(outside, fmt.Sprintf("addr add %s/126 dev %s nodad", outer6, veth))
		routes = append(routes, fmt.Sprintf("route add default via %s dev eth0", outer6))
	}
	Must(t, c.prepare())
	t.Cleanup(c.closeCgroups)
	Must(t, makeNamespace(c.namespace, append(inside, c.addresses(30, 126)...)))
	Must(t, batch(h.namespace, outside))
	Must(t, batch(c.namespace, routes))
	Must(t, c.settle())
	return c
}

// SPDX-License-Identifier: Apache-2.0

package links

import (
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
)

// Reached returns those of the addresses to which this host sends directly, through an interface whose other end is in the
// network namespace at path, or through the bridge that has the interface as a port. An address that belongs to another
// network is left out: a container may give itself any.
func Reached(path string, addrs []netip.Addr) ([]netip.Addr, error) {
	doors, err := doorsTo(path)
	if err != nil || len(doors) == 0 {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
		routes, err := netlink.RouteGet(a.AsSlice())
		return !a.IsGlobalUnicast() || err != nil || len(routes) == 0 || routes[0].Gw != nil || !doors[routes[0].LinkIndex]
	}), nil
}

// doorsTo returns the interfaces, and bridges, behind which the namespace at path is.
func doorsTo(path string) (doors map[int]bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	defer f.Close()
	links, err := dump(netlink.LinkList) // before GetNetNsIdByFd, as in InterfacesTo
	if err != nil {
		return nil, fmt.Errorf("read this host's interfaces: %w", err)
	}
	id, err := netlink.GetNetNsIdByFd(int(f.Fd()))
	if err != nil || id < 0 {
		return nil, err
	}
	doors = map[int]bool{}
	for _, l := range links {
		if l.Type() != "veth" || l.Attrs().NetNsID != id {
			continue
		}
		doors[l.Attrs().Index] = true
		if master := l.Attrs().MasterIndex; master != 0 {
			doors[master] = true
		}
	}
	return doors, nil
}

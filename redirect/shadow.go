// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Shadow is a route of others inside a virtual range.
type Shadow struct {
	Route string // as ip-route(8) prints it, about
	Taken bool   // packets for it don't come to us
}

// Shadows lists the routes of others inside the virtual ranges of c. Whether one takes packets away is the kernel's word: a
// route in the main table does not, while the local table is asked first. It is read anew only when routes have changed.
func (w *DriftWatcher) Shadows(c Config) ([]Shadow, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.shadowsDue {
		return w.shadows, nil
	}
	var err error
	w.shadows, err = shadows(c)
	w.shadowsDue = err != nil
	return w.shadows, err
}

func shadows(c Config) ([]Shadow, error) {
	found, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("read routes: %w", err)
	}
	var out []Shadow
	for _, r := range found {
		at := fromNetlink(r).dst
		if r.Protocol == routeProtocol || !inside(at, c.Range4) && !inside(at, c.Range6) {
			continue
		}
		ours, err := Ours(at.Addr())
		if err != nil {
			return nil, err
		}
		out = append(out, Shadow{Route: fmt.Sprintf("%s%s table %s", at, device(r), tableName(r.Table)), Taken: !ours})
	}
	return out, nil
}

func inside(p, outer netip.Prefix) bool {
	return outer.IsValid() && p.Addr().Is4() == outer.Addr().Is4() && outer.Contains(p.Addr()) && p.Bits() >= outer.Bits()
}

func device(r netlink.Route) string {
	if link, err := net.InterfaceByIndex(r.LinkIndex); err == nil {
		return " dev " + link.Name
	}
	return ""
}

// Ours asks the kernel for the way to an address, and says whether it ends on this host's loopback interface.
func Ours(addr netip.Addr) (bool, error) {
	ways, err := netlink.RouteGet(addr.AsSlice())
	if err != nil {
		return false, nil // none at all: unreachable, blackhole
	}
	for _, w := range ways {
		link, err := net.InterfaceByIndex(w.LinkIndex)
		if err != nil || w.Type != unix.RTN_LOCAL || link.Flags&net.FlagLoopback == 0 {
			return false, nil
		}
	}
	return len(ways) > 0, nil
}

// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Shadow is a route inside a virtual range that isn't ours.
type Shadow struct {
	Route string // destination, device and table, much as ip-route(8) prints them
	Taken bool   // the kernel routes packets for it elsewhere
}

// Shadows lists the routes inside the virtual ranges of c that aren't ours. The kernel's route look-up says whether one takes
// packets away: one in the main table doesn't, as long as the rule for the local table comes first. Shadows reads the
// routes only when Drift or Watch has found that they changed.
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
		out = append(out, Shadow{Route: fmt.Sprintf("%s%s table %s", at, device(r), tableName(r.Table)), Taken: !isLocal(at.Addr())})
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

// isLocal asks the kernel for the route to an address, and says whether it is a local one by the loopback interface.
func isLocal(addr netip.Addr) bool {
	ways, err := netlink.RouteGet(addr.AsSlice())
	if err != nil {
		return false // no route: unreachable, blackhole
	}
	for _, w := range ways {
		link, err := net.InterfaceByIndex(w.LinkIndex)
		if err != nil || w.Type != unix.RTN_LOCAL || link.Flags&net.FlagLoopback == 0 {
			return false
		}
	}
	return len(ways) > 0
}

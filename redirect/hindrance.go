// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Hindrances lists the settings of this network namespace that keep TPROXY from capturing what other namespaces send, each
// with its cure. Nothing is changed: they are the operator's. Measured on Linux 6.18: src_valid_mark hinders on "all" and
// on the interface by which packets come; a strict rp_filter only where the way back to their sender is by another
// interface, which the kernel is asked for every neighbour that it knows there.
func Hindrances() []string { return hindrances(os.DirFS("/proc/sys/net"), wayBack) }

func hindrances(net fs.FS, back func(dev string) (wrong string)) []string {
	var out []string
	arriving := func(list []string) []string { // packets of others don't come by lo, and none by "default"
		return slices.DeleteFunc(list, func(dev string) bool { return dev == "lo" || dev == "default" })
	}
	if on := arriving(interfacesWith(net, "ipv4/conf", "src_valid_mark", "1")); len(on) > 0 {
		out = append(out, fmt.Sprintf("src_valid_mark is 1 on %s: what other namespaces send there is dropped instead of captured; set net.ipv4.conf.%s.src_valid_mark=0",
			strings.Join(on, ", "), on[0]))
	}
	for _, dev := range arriving(strict(net)) {
		if wrong := back(dev); wrong != "" {
			out = append(out, fmt.Sprintf("rp_filter is 1 (strict) on %s, and %s: it is dropped instead of captured; set net.ipv4.conf.%s.rp_filter=2", dev, wrong, dev))
		}
	}
	return out
}

// strict are the interfaces whose rp_filter, the greater of their own and that of "all", is 1.
func strict(net fs.FS) []string {
	with := func(value string) []string { return interfacesWith(net, "ipv4/conf", "rp_filter", value) }
	loose, on, off := with("2"), with("1"), with("0")
	switch {
	case slices.Contains(loose, "all"):
		return nil
	case slices.Contains(on, "all"):
		on = append(on[1:], off...)
	}
	return on
}

// wayBack names a neighbour on dev whose packets a strict rp_filter drops: the way to it is by another interface.
func wayBack(dev string) (wrong string) {
	link, err := net.InterfaceByName(dev)
	if err != nil {
		return ""
	}
	known, err := netlink.NeighList(link.Index, netlink.FAMILY_V4)
	if err != nil {
		return ""
	}
	for _, n := range known {
		if n.State&(unix.NUD_FAILED|unix.NUD_INCOMPLETE|unix.NUD_NOARP) != 0 {
			continue
		}
		ways, err := netlink.RouteGet(n.IP)
		if err == nil && len(ways) > 0 && !slices.ContainsFunc(ways, func(r netlink.Route) bool { return r.LinkIndex == link.Index }) {
			return fmt.Sprintf("what %s sends comes by it while the way back is by another interface", n.IP)
		}
	}
	return ""
}

// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Hindrances lists the sysctls of this network namespace that keep TPROXY from capturing what other namespaces send, each
// with its cure. It changes nothing: they are the operator's. Measured on Linux 6.18: src_valid_mark hinders when set on
// "all" or on the interface where the packets arrive; a strict rp_filter only where the route back to their sender leads
// by another interface. The kernel's neighbour table names the senders to check.
func Hindrances() []string { return hindrances(os.DirFS("/proc/sys/net"), wayBack) }

func hindrances(net fs.FS, back func(dev string) (wrong string)) []string {
	var out []string
	var marked []string
	for dev, value := range values(net, "src_valid_mark") {
		if value == "1" && dev != "lo" && dev != "default" { // no captured packet arrives there
			marked = append(marked, dev)
		}
	}
	if slices.Sort(marked); len(marked) > 0 { // "all" comes before most names
		out = append(out, fmt.Sprintf("src_valid_mark is 1 on %s: what other namespaces send there is dropped instead of captured; set net.ipv4.conf.%s.src_valid_mark=0",
			strings.Join(marked, ", "), marked[0]))
	}
	for _, dev := range strict(net) {
		if wrong := back(dev); wrong != "" {
			out = append(out, fmt.Sprintf("rp_filter is 1 (strict) on %s, and %s: it is dropped instead of captured; set net.ipv4.conf.%s.rp_filter=2", dev, wrong, dev))
		}
	}
	return out
}

// StrictFilters are the interfaces whose rp_filter is strict. That alone hinders nothing: see [Hindrances].
func StrictFilters() []string { return strict(os.DirFS("/proc/sys/net")) }

// strict are the interfaces whose rp_filter, the greater of their own and that of "all", is 1.
func strict(net fs.FS) []string {
	filters := values(net, "rp_filter")
	all := filters["all"]
	var out []string
	for dev, own := range filters {
		if dev != "all" && dev != "lo" && dev != "default" && max(own, all) == "1" {
			out = append(out, dev)
		}
	}
	slices.Sort(out)
	return out
}

// values maps each interface to its value of a setting.
func values(net fs.FS, name string) map[string]string {
	entries, err := fs.ReadDir(net, "ipv4/conf")
	if err != nil {
		return nil // the kernel has no IPv4
	}
	out := map[string]string{}
	for _, e := range entries {
		if b, err := fs.ReadFile(net, path.Join("ipv4/conf", e.Name(), name)); err == nil {
			out[e.Name()] = strings.TrimSpace(string(b))
		}
	}
	return out
}

// wayBack names a neighbour on dev whose packets a strict rp_filter drops, since the route to it is by another interface;
// "" if there is none.
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

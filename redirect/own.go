// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// What follows is for hosts without socket hooks. A packet that a program of this namespace sends to a virtual address, or
// to a resolver, is marked in OUTPUT unless the daemon's cgroup sent it. The mark has it looked up in our table, by which
// it comes in again by lo, where PREROUTING hands it to the listener. The mark steers and is no identity.

// marked are the rules in OUTPUT.
func (f family) marked() [][]string {
	var out [][]string
	for _, o := range f.own() {
		spec := slices.Concat([]string{"-d", o.dst.String()}, o.proto(), []string{"-m", "cgroup", "!", "--path", f.daemon})
		out = append(out, append(spec, "-j", "MARK", "--set-xmark", fmt.Sprintf("%#x/%#x", tproxyMark, tproxyMark)))
	}
	return out
}

// comeBack are the rules in PREROUTING.
func (f family) comeBack() [][]string {
	if f.daemon == "" {
		return nil
	}
	var out [][]string
	for _, o := range f.own() {
		spec := slices.Concat([]string{"-d", o.dst.String(), "-i", "lo"}, o.proto(),
			[]string{"-m", "mark", "--mark", fmt.Sprintf("%#x/%#x", tproxyMark, tproxyMark)})
		out = append(out, f.tproxy(spec, o.listener))
	}
	return out
}

// destination is one that this namespace's own packets are captured for.
type destination struct {
	name     string // tcp or udp
	dst      netip.Prefix
	port     int // 0: every one
	listener uint16
}

func (d destination) proto() []string {
	if d.port == 0 {
		return []string{"-p", d.name}
	}
	return []string{"-p", d.name, "-m", d.name, "--dport", strconv.Itoa(d.port)}
}

func (f family) own() []destination {
	var out []destination
	if f.virtual.IsValid() && f.port != 0 {
		out = append(out, destination{"tcp", f.virtual, 0, f.port})
	}
	if f.dnsPort == 0 {
		return out
	}
	for _, a := range f.ownResolvers {
		host := netip.PrefixFrom(a, a.BitLen())
		out = append(out, destination{"udp", host, dnsPort, f.dnsPort}, destination{"tcp", host, dnsPort, f.dnsPort})
	}
	return out
}

// guard is the chain that resets what comes to ports from outside of this namespace, but for captured connections.
func (f family) guard(ports []uint16) []chain {
	if len(ports) == 0 {
		return nil
	}
	c := chain{v6: f.v6, table: filter, parent: "INPUT"}
	for _, p := range slices.Compact(slices.Sorted(slices.Values(ports))) {
		spec := []string{"!", "-i", "lo", "-p", "tcp", "-m", "tcp", "--dport", strconv.Itoa(int(p)),
			"-j", "REJECT", "--reject-with", "tcp-reset"}
		if f.virtual.IsValid() {
			spec = append([]string{"!", "-d", f.virtual.String()}, spec...)
		}
		c.specs = append(c.specs, spec)
	}
	return []chain{c}
}

// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// This file is for hosts without socket hooks. OUTPUT marks a packet that a program of this namespace sends to a virtual
// address or to a resolver, unless its socket is of the daemon's cgroup. For a marked packet the kernel looks up our table,
// whose route delivers it through lo, and there PREROUTING hands it to the listener. The mark steers and is no identity.

// marked are the rules in OUTPUT.
func (f family) marked() [][]string {
	var out [][]string
	for _, o := range f.own() {
		spec := slices.Concat([]string{"-d", o.dst.String()}, o.proto(), []string{"-m", "cgroup", "!", "--path", f.daemon})
		out = append(out, append(spec, "-j", "MARK", "--set-xmark", fmt.Sprintf("%#x/%#x", tproxyMark, tproxyMark)))
	}
	return out
}

// rerouted are the rules in PREROUTING for marked packets.
func (f family) rerouted() [][]string {
	if f.daemon == "" {
		return nil
	}
	var out [][]string
	for _, o := range f.own() {
		spec := slices.Concat([]string{"-d", o.dst.String(), "-i", "lo"}, o.proto(),
			[]string{"-m", "mark", "--mark", fmt.Sprintf("%#x/%#x", tproxyMark, tproxyMark)})
		out = append(out, f.tproxy(spec, o.listener, tproxyMark))
	}
	return out
}

// destination is one for which this namespace's own packets are captured.
type destination struct {
	name     string // tcp or udp
	dst      netip.Prefix
	port     int // 0: every port
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

// guard are the chains that refuse connections to ports which bypass the mesh: those from outside of this namespace, and,
// with the daemon's cgroup known, those of all local programs but the daemon. Captured connections to virtual addresses may
// have the same port, so these are left out. Only SYN packets are matched: a client on this host may have the number as its
// local port.
func (f family) guard(ports []uint16) []chain {
	ports = slices.Compact(slices.Sorted(slices.Values(ports)))
	input := chain{v6: f.v6, table: filter, parent: "INPUT"}
	output := chain{v6: f.v6, table: filter, parent: "OUTPUT", specs: f.confined()}
	for _, p := range ports {
		to := opening("--dport", strconv.Itoa(int(p)))
		reset := []string{"-j", "REJECT", "--reject-with", "tcp-reset"}
		input.specs = append(input.specs, slices.Concat(f.notVirtual(), []string{"!", "-i", "lo"}, to, reset))
		if f.daemon != "" {
			others := []string{"-m", "cgroup", "!", "--path", f.daemon}
			output.specs = append(output.specs, slices.Concat(f.notVirtual(), []string{"-o", "lo"}, to, others, reset))
		}
	}
	return slices.DeleteFunc([]chain{input, output}, func(c chain) bool { return len(c.specs) == 0 })
}

// confined keeps packets to virtual addresses, and connections from them, on this host, as no hook does here: a socket
// bound to a device bypasses the route to lo, and a program can bind to a virtual address. Answers to other namespaces have
// a virtual source address and must pass, so only SYN packets from one are refused.
func (f family) confined() [][]string {
	if f.daemon == "" || !f.virtual.IsValid() {
		return nil
	}
	unreachable := "icmp-port-unreachable"
	if f.v6 {
		unreachable = "icmp6-port-unreachable"
	}
	reject := []string{"-j", "REJECT", "--reject-with", unreachable}
	return [][]string{
		slices.Concat([]string{"-d", f.virtual.String(), "!", "-o", "lo"}, reject),
		slices.Concat([]string{"-s", f.virtual.String(), "!", "-o", "lo"}, opening(), reject),
	}
}

func (f family) notVirtual() []string {
	if !f.virtual.IsValid() {
		return nil
	}
	return []string{"!", "-d", f.virtual.String()}
}

// opening matches the SYN that opens a connection.
func opening(more ...string) []string {
	return slices.Concat([]string{"-p", "tcp", "-m", "tcp"}, more, []string{"--tcp-flags", "FIN,SYN,RST,ACK", "SYN"})
}

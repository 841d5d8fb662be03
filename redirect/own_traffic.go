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
		out = append(out, f.tproxy(spec, o.listener, tproxyMark))
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

// guard are the chains that refuse what goes to ports round the mesh. From outside of this namespace nobody gets there;
// from within, with the daemon's cgroup known, only the daemon. Captured connections to a virtual address have such a port,
// too. Only the packet that opens a connection is looked at: a program of this host may use the number as its own port.
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

// confined keeps packets for virtual addresses on this host, where no hook does, and connections from them: a socket
// bound to a device goes round the route to lo, and one can be bound to such an address. Answers to other namespaces come
// from it rightly.
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

// opening matches the first packet of a connection.
func opening(more ...string) []string {
	return slices.Concat([]string{"-p", "tcp", "-m", "tcp"}, more, []string{"--tcp-flags", "FIN,SYN,RST,ACK", "SYN"})
}

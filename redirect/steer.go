// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// Exclude is traffic of other network namespaces that is not captured.
type Exclude struct {
	Ports []uint16       // destination ports, TCP and UDP
	CIDRs []netip.Prefix // sources and destinations
}

// way holds the iptables options that match a packet: one that comes in, or an answer that goes back out.
type way struct{ dst, dport, dev string }

var (
	in   = way{"-d", "--dport", "-i"}
	back = way{"-s", "--sport", "-o"}
)

// chains returns the family's chains.
func (f family) chains() []chain {
	out := []chain{
		{v6: f.v6, table: mangle, parent: "PREROUTING", specs: slices.Concat(f.excluded(in), f.steered())},
		{v6: f.v6, table: raw, parent: "PREROUTING", specs: f.untracked(in)},
		{v6: f.v6, table: raw, parent: "OUTPUT", specs: f.untracked(back)},
	}
	if f.daemon != "" {
		out = append(out, chain{v6: f.v6, table: mangle, parent: "OUTPUT", specs: slices.Concat(f.excluded(in), f.marked())})
	}
	return out
}

// excluded are the rules that exempt packets from those of steered.
func (f family) excluded(w way) [][]string {
	var out [][]string
	add := func(spec ...string) {
		if spec = append(spec, "-j", "RETURN"); !slices.ContainsFunc(out, func(s []string) bool { return slices.Equal(s, spec) }) {
			out = append(out, spec)
		}
	}
	for _, p := range f.exclude.Ports {
		for _, proto := range []string{"tcp", "udp"} {
			add("-p", proto, "-m", proto, w.dport, strconv.Itoa(int(p)))
		}
	}
	for _, c := range f.exclude.CIDRs {
		if c = c.Masked(); !c.IsValid() || c.Addr().Is6() != f.v6 {
			continue
		}
		if c.Bits() == 0 {
			add() // iptables -S doesn't print a prefix of length 0
			continue
		}
		add("-s", c.String())
		add("-d", c.String())
	}
	return out
}

// steered are the rules that hand packets to our listeners.
func (f family) steered() [][]string {
	var specs [][]string
	if f.virtual.IsValid() && f.port != 0 {
		specs = append(specs, f.tproxy(f.match(in, "tcp", f.virtual, 0), f.port, f.virtualMark()))
	}
	for _, query := range f.queries(in) {
		specs = append(specs, f.tproxy(query, f.dnsPort, tproxyMark))
	}
	return slices.Concat(specs, f.rerouted())
}

// tproxy hands what matches to the listener on a port of ours.
//
// TPROXY drops a packet if there is no listener for it. Without the gate that match adds, other namespaces could resolve no
// name while the daemon is not running.
func (f family) tproxy(match []string, port uint16, mark int) []string {
	return append(match, "-j", "TPROXY", "--on-port", strconv.Itoa(int(port)), "--on-ip", f.loopback.String(),
		"--tproxy-mark", fmt.Sprintf("%#x/%#x", mark, mark))
}

// virtualMark is the mark for packets to virtual addresses. With the gate they need none, since these addresses are local;
// and with the sysctl tcp_fwmark_accept, the accepted socket would inherit the mark, and its answers would be routed back to
// this host. Without hooks, packets rerouted through lo have the mark anyway.
func (f family) virtualMark() int {
	if f.gate {
		return 0
	}
	return tproxyMark
}

// queries match the DNS queries of other namespaces to the host's resolvers, or their answers.
func (f family) queries(w way) [][]string {
	if f.dnsPort == 0 {
		return nil
	}
	var out [][]string
	for _, a := range f.resolvers {
		host := netip.PrefixFrom(a, a.BitLen())
		out = append(out, f.match(w, "udp", host, dnsPort), f.match(w, "tcp", host, dnsPort))
	}
	return out
}

// match selects packets of a protocol to or from a prefix; port 0 is every port. It leaves out the loopback interface, since
// netfilter steers nothing of this namespace's own here.
func (f family) match(w way, proto string, p netip.Prefix, port int) []string {
	spec := []string{w.dst, p.String(), "!", w.dev, "lo", "-p", proto}
	if port != 0 {
		spec = append(spec, "-m", proto, w.dport, strconv.Itoa(port))
	}
	if f.gate && w == in { // answers need no gate: they exist only if the daemon sent them
		spec = append(spec, "-m", "socket", "--transparent")
	}
	return spec
}

// untracked are the rules that keep captured packets out of connection tracking, and so out of every NAT. Virtual addresses
// are local to this host, and NAT rules of others for local addresses (Docker's addrtype LOCAL, a REDIRECT of all TCP) would
// divert captured connections; a REDIRECT of port 53 would change the address that a captured query was sent to. A chain in
// the nat table would have to be the first one there, and couldn't precede nftables' own nat chains.
func (f family) untracked(w way) [][]string {
	var specs [][]string
	if f.virtual.IsValid() {
		specs = append(specs, []string{"-d", f.virtual.String()}, []string{"-s", f.virtual.String()})
	}
	specs = append(specs, f.answersUntracked()...)
	queries := f.queries(w)
	specs = append(specs, queries...)
	for i := range specs {
		specs[i] = append(specs[i], "-j", "CT", "--notrack")
	}
	if len(queries) > 0 { // excluded queries may need NAT
		specs = slices.Insert(specs, len(specs)-len(queries), f.excluded(w)...)
	}
	return specs
}

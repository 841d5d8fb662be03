// SPDX-License-Identifier: Apache-2.0

// Package redirect puts capture on a host and takes it off: routes, policy routing rules and TPROXY chains. A [Plan]
// says what the host shall hold, [Apply] puts it in force, and a [DriftWatcher] finds what others have changed. The sockets
// that receive what is steered come from package listen.
//
// It steers and never guards: who may talk to whom is decided elsewhere, and flushing everything installed here must not
// open a connection that policy denies. It must not change sysctls, set route_localnet, or touch a route, rule or chain
// that is not ours. Everything acts on the network namespace of the calling thread.
package redirect

import (
	"net/netip"
	"slices"
)

// Config says what to capture. The zero Config captures nothing.
type Config struct {
	Range4, Range6     netip.Prefix // virtual addresses; a zero prefix leaves that family out
	Port4, Port6       uint16       // proxy listeners on 127.0.0.1 and ::1, for TPROXY; 0 leaves that rule out
	DNSPort4, DNSPort6 uint16       // transparent DNS listeners, UDP and TCP on one port; 0 leaves those rules out
	// Resolvers are the host's: what other network namespaces send to their port 53 is captured. Loopback addresses are left
	// out, since no packet for them arrives by veth, and so are IPv6 link-local ones, which mean another host on each link.
	Resolvers []netip.Addr
	IPv6      bool // false leaves out all of IPv6
	TPROXY    bool // capture traffic of other network namespaces; needs iptables
	Exclude   Exclude
	// Gate steers traffic of other namespaces only where the kernel finds a transparent socket for it. It is for hosts with
	// hooks: the sk_lookup program finds the daemon's listeners, and none while the daemon is not running.
	Gate bool
	// Daemon, if not "", captures this namespace's own traffic too, except that of sockets created in this cgroup: its path
	// below the root of the v2 tree, with a leading slash. It is for hosts without socket hooks. A rule refers to the cgroup
	// that had this path when the rule was made.
	Daemon string
	// Answers are TCP ports at loopback addresses whose programs the daemon calls from addresses of other hosts: what these
	// programs answer stays on this host.
	Answers []uint16
	// Guards are TCP ports of this host that refuse connections from outside and, with Daemon, from all local programs but
	// the daemon. It is for hosts without socket hooks; flushing the filter table opens them.
	Guards []uint16
}

// Plan is what a host shall hold, as data. [NewPlan] and [GuardPlan] make one, String prints it, and [Apply] puts it in
// force. The zero Plan holds nothing.
type Plan struct {
	routes []route
	rules  []rule
	chains []chain
	// addOnly keeps Apply from removing what another plan has put there.
	addOnly bool
}

// route is one route of ours. It is comparable: a route of the plan equals (==) what the kernel reports of it.
type route struct {
	kind   routeKind
	dst    netip.Prefix
	table  int
	metric int
	src    netip.Addr // preferred source, may be zero
}

// routeKind is the word that ip-route(8) uses for a route's type.
type routeKind string

const (
	kindLocal     routeKind = "local"
	kindBlackhole routeKind = "blackhole"
)

// rule is one policy routing rule of ours: marked packets, or TCP packets from a port of a loopback address, are looked up in
// a table.
type rule struct {
	v6         bool
	priority   int
	mark, mask uint32
	src        netip.Prefix // may be zero
	sport      uint16       // with src
	table      int
}

// NewPlan returns everything that a running daemon needs on its host: the routes of [GuardPlan], a local route for each
// virtual range, and with TPROXY the chains, rules and tables for other network namespaces. Applying it removes whatever
// else of ours is there.
func NewPlan(c Config) Plan {
	p := GuardPlan(c)
	p.addOnly = false
	for _, f := range c.families() {
		if f.virtual.IsValid() {
			p.routes = append(p.routes, localRoute(f.virtual, tableLocal, f.loopback))
		}
		p.rules = append(p.rules, f.answered()...)
		if c.TPROXY {
			p.rules = append(p.rules, rule{v6: f.v6, priority: tproxyPriority, mark: tproxyMark, mask: tproxyMark, table: tproxyTable})
			p.chains = append(p.chains, f.chains()...)
		}
		if c.TPROXY || len(c.Answers) > 0 {
			p.routes = append(p.routes, localRoute(f.everything, tproxyTable, netip.Addr{}))
		}
	}
	return p
}

// GuardPlan returns the routes that keep packets for virtual addresses from leaving the host while no local route
// catches them: blackholes of the lowest preference. They are in the local table, which the kernel looks up before every
// other: a VPN's rule for all traffic comes before the main table. Applying it removes nothing, so it is safe while a
// daemon is running. The kernel removes the IPv6 one, like every IPv6 route by lo, when lo is taken down.
func GuardPlan(c Config) Plan {
	p := Plan{addOnly: true}
	for _, f := range c.families() {
		if f.virtual.IsValid() {
			p.routes = append(p.routes, route{kind: kindBlackhole, dst: f.virtual, table: tableLocal, metric: blackholeMetric})
		}
		p.chains = append(p.chains, f.guard(c.Guards)...)
	}
	return p
}

// TPROXY says whether the plan has chains: whether it captures what other network namespaces send.
func (p Plan) TPROXY() bool { return len(p.chains) > 0 }

// family is the part of a Config that belongs to one address family.
type family struct {
	v6            bool
	virtual       netip.Prefix
	everything    netip.Prefix
	loopback      netip.Addr
	port, dnsPort uint16
	resolvers     []netip.Addr // asked by other namespaces
	ownResolvers  []netip.Addr // asked by this namespace
	exclude       Exclude
	answers       []uint16
	gate          bool
	daemon        string
}

// families splits a Config into its families, IPv4 first.
func (c Config) families() []family {
	v4 := family{virtual: c.Range4.Masked(), everything: netip.PrefixFrom(netip.IPv4Unspecified(), 0),
		loopback: netip.AddrFrom4([4]byte{127, 0, 0, 1}), port: c.Port4, dnsPort: c.DNSPort4, exclude: c.Exclude, answers: c.Answers, gate: c.Gate, daemon: c.Daemon}
	v6 := family{v6: true, virtual: c.Range6.Masked(), everything: netip.PrefixFrom(netip.IPv6Unspecified(), 0),
		loopback: netip.IPv6Loopback(), port: c.Port6, dnsPort: c.DNSPort6, exclude: c.Exclude, answers: c.Answers, gate: c.Gate, daemon: c.Daemon}
	for _, a := range c.Resolvers {
		f := &v4
		if a = a.Unmap(); a.Is6() {
			f = &v6
		}
		if !a.IsValid() || a.IsUnspecified() || a.Is6() && a.IsLinkLocalUnicast() || slices.Contains(f.ownResolvers, a) {
			continue
		}
		f.ownResolvers = append(f.ownResolvers, a)
		if !a.IsLoopback() {
			f.resolvers = append(f.resolvers, a)
		}
	}
	if !c.IPv6 {
		return []family{v4}
	}
	return []family{v4, v6}
}

// localRoute delivers dst to this host, whatever its addresses.
func localRoute(dst netip.Prefix, table int, src netip.Addr) route {
	r := route{kind: kindLocal, dst: dst, table: table, src: src}
	if dst.Addr().Is6() {
		r.metric = metric6
	}
	return r
}

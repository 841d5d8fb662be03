// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"tacit/identity"
	"tacit/node/audit"
	"tacit/node/balance"
	"tacit/node/catalog"
	"tacit/node/checks"
	"tacit/node/config"
	"tacit/node/definition"
	"tacit/node/dns"
	"tacit/node/gossip"
	"tacit/node/gossip/wire"
	"tacit/node/handover"
	"tacit/node/health"
	"tacit/node/journal"
	"tacit/node/limits"
	"tacit/node/peers"
	"tacit/node/seen"
	"tacit/node/signer"
	"tacit/node/zone"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/redirect/netns"
	"tacit/tproxy"
)

// What follows connects parts: each function asks one and tells another.

// nudge has the loop look at what has changed.
func (n *Node) nudge() { n.loop.Nudge() }

// settle has the loop write the kernel's maps again, now.
func (n *Node) settle() {
	n.loop.Nudge()
	n.loop.Settle()
}

// changed is told by the datapath.
func (n *Node) changed(sweep bool) {
	if sweep {
		n.loop.Judge()
		return
	}
	n.loop.Nudge()
}

// tampered is told by the datapath what others have changed in the kernel.
func (n *Node) tampered(what string) { n.loop.Tampered(what) }

// moved is told when the daemon's cgroup was made anew.
func (n *Node) moved() { n.probe.Moved() }

// alive says which members answer now.
func (n *Node) alive() map[identity.Name]bool {
	up := map[identity.Name]bool{}
	for _, name := range n.term.Given.StillAlive() { // until gossip says more
		up[name] = true
	}
	for _, m := range n.pool.Members() {
		up[m.Name] = m.Alive
	}
	return up
}

// leaving says whether a member has announced that it is about to stop.
func (n *Node) leaving(node identity.Name) bool { return n.pool.Leaving(node) }

// seeds are the gossip addresses of the members known from records, and those
// of --join.
func (n *Node) seeds() []gossip.Seed {
	var out []gossip.Seed
	for _, m := range n.records.View().Members() {
		if host, ok := n.records.View().Node(m.Node); ok {
			out = append(out, gossip.Seed{Name: m.Node, Addr: net.JoinHostPort(host.Address, strconv.Itoa(int(host.GossipPort)))})
		}
	}
	for _, addr := range n.cfg.Join {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			addr = host
		}
		out = append(out, gossip.Seed{Addr: net.JoinHostPort(addr, strconv.Itoa(int(n.cfg.GossipPort)))})
	}
	return out
}

// peer knows a member by the records: one that is revoked is none.
func (n *Node) peer(name identity.Name) (wire.Peer, bool) {
	m, ok := n.records.View().Member(name)
	return wire.Peer{Public: m.Public, Addr: netip.AddrPortFrom(n.hostOf(name), 0)}, ok
}

// cut is told when gossip with a member ends because it floods this node, and when it
// begins again.
func (n *Node) cut(member identity.Name, why error) {
	if n.board.Set(health.Gossip, string(member), why); why != nil {
		n.log.Warn("a member floods this node", "node", member, "err", why)
	}
}

// refused logs and remembers a refusal that the hooks made.
func (n *Node) refused(e kernel.Event) {
	n.journal.Refused(e)
	switch e.Reason {
	case policy.ReasonPermissive, policy.ReasonChanged, policy.ReasonLate:
		return // no connection was refused; the loop logs what it cuts
	}
	n.log.Info("connection refused", "source", orNobody(e.Source), "destination", e.Destination,
		"reason", e.Reason, "target", e.Target, "pid", e.PID, "program", e.Comm)
}

func orNobody(name identity.Name) identity.Name {
	if name == "" {
		return "nobody"
	}
	return name
}

// enrol adds what no record says: the self-probe and the health checks.
func (n *Node) enrol(s *kernel.State) {
	n.probe.Enrol(s)
	n.checks.Enrol(s, n.inventory.View().Definitions())
}

// want receives which services this node may run, once the maps are written:
// from now on their checks can reach them.
func (n *Node) want(services []identity.Name) {
	n.certificates.Want(services)
	n.outside.Follow(n.loop.Catalog().Outsiders())
	n.shadows.Note(slices.DeleteFunc(slices.Clone(services), identity.Name.IsIngress))
	run := map[identity.Name]bool{}
	for _, name := range services {
		run[name] = true
	}
	granted := slices.DeleteFunc(n.inventory.View().Definitions(), func(d definition.Definition) bool { return !run[d.Name] })
	n.checks.Set(granted)
	n.ingress.Set(granted)
}

// critical is why an instance or an ingress can't serve.
func (n *Node) critical(id string) string {
	if name := identity.Name(id); name.IsIngress() {
		return n.ingress.Closed(name)
	}
	return cmp.Or(n.outside.Down(id), n.checks.Critical(id))
}

// target is where a health check reaches an instance, and in which network namespace.
func (n *Node) target(id string) (to []netip.AddrPort, in netns.Namespace, err error) {
	if s, ok := n.inventory.View().ByID(id); ok && s.Outside != nil {
		to, err = n.outside.ByID(id)
		return to, in, err
	}
	at, in, err := n.inventory.Reach(id)
	return []netip.AddrPort{at}, in, err
}

// ranges are those of virtual addresses.
func (n *Node) ranges() []netip.Prefix { return []netip.Prefix{n.cfg.Range4, n.cfg.Range6} }

// tagLookup marks a socket as one that asks for the real name of a service.
func (n *Node) tagLookup(fd int, service identity.Name) error {
	return n.enforcer.Tag(fd, service, service, false)
}

// tagCheck marks a socket as a health check's.
func (n *Node) tagCheck(fd int, service identity.Name) error {
	return n.enforcer.Tag(fd, checks.Identity, service, false)
}

// virtual returns a service's virtual addresses; invalid ones when its number
// can't be kept or the range is used up.
func (n *Node) virtual(name identity.Name) (v4, v6 netip.Addr) {
	number := n.numbers.Number(name)
	if number == 0 {
		return netip.Addr{}, netip.Addr{}
	}
	if n.ipv6 {
		v6 = kernel.Virtual6(n.cfg.Range6, number)
	}
	return kernel.Virtual4(n.cfg.Range4, number), v6
}

// dialer connects to the programs of this node.
func (n *Node) dialer() seen.Dialer {
	td := n.member.Bundle.TrustDomain()
	return seen.Dialer{Virtual: n.virtual, Local: n.local, Host: n.hostOf, Tag: n.enforcer.Tag, Transparent: n.cfg.Redirect == config.TPROXY,
		ID: func(name identity.Name) string { return identity.ServiceID(td, name).String() }}
}

// local returns whether an address is this host's own, or virtual.
func (n *Node) local(a netip.Addr) bool {
	return n.cfg.Range4.Contains(a) || n.cfg.Range6.Contains(a) || slices.Contains(n.addresses.List(), a)
}

// hostOf is the address in another node's signed record, zero where there is none.
func (n *Node) hostOf(node identity.Name) netip.Addr {
	body, _ := n.records.View().Node(node)
	a, _ := netip.ParseAddr(body.Address)
	return a
}

// zone tells the DNS server what there is.
func (n *Node) zone() zone.Zone {
	return zone.Zone{Config: zone.Config{
		Probe:    func(name identity.Name) (v4, v6 netip.Addr, ok bool) { return n.probe.Lookup(name) },
		Catalog:  func() *catalog.Catalog { return n.loop.Catalog() },
		Programs: n.inventory.Enrolled,
		Virtual:  n.virtual, Record: n.records.View().Node, Number: n.enforcer.NumberOf, Name: n.numbers.Name,
	}}
}

// names is what the CLI asks about names.
type names struct {
	*dns.Server
	n *Node
}

// Virtual returns a service's virtual addresses.
func (a names) Virtual(name identity.Name) (v4, v6 netip.Addr) { return a.n.virtual(name) }

// Outside says what the bare name of a service means to the host's first resolver.
func (a names) Outside(ctx context.Context, name identity.Name) []string {
	return a.n.shadows.Ask(ctx, name)
}

// Foreign says why an address can't be outside of the mesh.
func (a names) Foreign(addr netip.Addr) error { return a.n.outside.Judge(addr) }

// Reached are the known addresses of an instance outside of the mesh.
func (a names) Reached(in catalog.Instance) []netip.AddrPort { return a.n.outside.Known(in) }

// carrier is what carries connections, what chooses their instances, where they come
// in, and who carries some from before a take-over.
type carrier struct {
	*tproxy.Proxy
	*balance.Balancer
	*peers.Peers
	*limits.Limits
	*handover.Predecessor
}

// history is what happened: to connections, and to policy, grants and keys.
type history struct {
	*journal.Journal
	*audit.Log
}

// saveAgain writes what the disk had no room for.
func (n *Node) saveAgain() {
	n.records.SaveAgain()
	n.audit.WriteAgain()
}

// signer signs on behalf of this node.
func (n *Node) signer() signer.Signer {
	return signer.Signer{Self: n.cfg.Name, Member: n.member, Records: n.records, Log: n.log}
}

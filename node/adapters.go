// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/balance"
	"tacit/node/catalog"
	"tacit/node/checks"
	"tacit/node/config"
	"tacit/node/definition"
	"tacit/node/records"
	"tacit/node/seen"
	"tacit/node/zone"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/policy/ledger"
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

// moved is told when the daemon's cgroup was made anew.
func (n *Node) moved() { n.probe.Moved() }

// alive says which members answer now.
func (n *Node) alive() map[identity.Name]bool {
	up := map[identity.Name]bool{}
	for _, m := range n.pool.Members() {
		up[m.Name] = m.Alive
	}
	return up
}

// seeds are the gossip addresses of the members known from records, and those
// of --join.
func (n *Node) seeds() []string {
	var out []string
	for _, m := range n.records.View().Members() {
		if host, ok := n.records.View().Node(m.Node); ok && m.Node != n.cfg.Name {
			out = append(out, net.JoinHostPort(host.Address, strconv.Itoa(int(host.GossipPort))))
		}
	}
	for _, addr := range n.cfg.Join {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			addr = host
		}
		out = append(out, net.JoinHostPort(addr, strconv.Itoa(int(n.cfg.GossipPort))))
	}
	return out
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
	return n.checks.Critical(id)
}

// tagCheck marks a socket as a health check's.
func (n *Node) tagCheck(fd int, service identity.Name) error {
	return n.enforcer.Tag(fd, checks.Identity, service)
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
		Probe:   func(name identity.Name) (v4, v6 netip.Addr, ok bool) { return n.probe.Lookup(name) },
		Catalog: func() *catalog.Catalog { return n.loop.Catalog() },
		Virtual: n.virtual, Record: n.records.View().Node, Number: n.enforcer.NumberOf, Name: n.numbers.Name,
	}}
}

// names is what the CLI asks about names.
type names struct{ n *Node }

// Service says which service a name means, and why.
func (a names) Service(name string) (identity.Name, string) { return a.n.names.Service(name) }

// Virtual returns a service's virtual addresses.
func (a names) Virtual(name identity.Name) (v4, v6 netip.Addr) { return a.n.virtual(name) }

// Outside says what the bare name of a service means to the host's first resolver.
func (a names) Outside(ctx context.Context, name identity.Name) []string {
	return a.n.shadows.Ask(ctx, name)
}

// Rebinding is how many answers of resolvers were refused.
func (a names) Rebinding() uint64 { return a.n.names.Rebinding() }

// carrier is what carries connections, and what chooses their instances.
type carrier struct {
	*tproxy.Proxy
	*balance.Balancer
}

// signer signs on behalf of this node.
type signer struct{ n *Node }

// GrantOwn is nil when this node may run the service. A node with an operator
// key grants itself what root has defined on it. Errors: *api.Error with the
// reason grant.
func (s signer) GrantOwn(service identity.Name) error {
	n := s.n
	if n.records.View().Granted(n.cfg.Name, service) {
		return nil
	}
	if n.member.Operator == nil {
		return s.notGranted(service)
	}
	if err := s.Grant(n.cfg.Name, service, false); err != nil {
		return err
	}
	n.log.Info("granted to this node with its operator key", "service", service)
	return nil
}

func (s signer) notGranted(service identity.Name) error {
	e := &api.Error{Code: api.CodeRefused, Reason: "grant",
		Message: fmt.Sprintf("service %s is not granted to node %s", service, s.n.cfg.Name),
		Hint:    fmt.Sprintf("on a node with an operator key: tacit node grant %s --service %s", s.n.cfg.Name, service)}
	for _, o := range s.n.records.View().Operators() {
		e.Nodes = append(e.Nodes, string(o.Node))
	}
	return e
}

// Grant signs with the operator key that a node may run a service, or that it
// may no longer.
func (s signer) Grant(node, service identity.Name, withdraw bool) error {
	body := ledger.GrantBody{Node: node, Service: service}
	return s.n.records.Sign(s.n.member.Operator, records.Change{Kind: ledger.KindGrant,
		Key: string(node) + "/" + string(service), Body: body, Delete: withdraw})
}

// SignInstance publishes an instance of this node, or withdraws it.
func (s signer) SignInstance(body ledger.InstanceBody, withdraw bool) error {
	return s.n.records.Sign(s.n.member.Key, records.Change{Kind: ledger.KindInstance,
		Key: string(s.n.cfg.Name) + "/" + body.ID, Body: body, Delete: withdraw})
}

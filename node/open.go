// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"tacit/node/api"
	"tacit/node/audit"
	"tacit/node/balance"
	"tacit/node/checks"
	"tacit/node/config"
	"tacit/node/control"
	"tacit/node/control/keys"
	"tacit/node/datapath"
	"tacit/node/dns"
	"tacit/node/gossip"
	"tacit/node/handover"
	"tacit/node/health"
	"tacit/node/ingress"
	"tacit/node/inventory"
	"tacit/node/journal"
	"tacit/node/lifecycle"
	"tacit/node/limits"
	"tacit/node/membership"
	"tacit/node/metrics"
	"tacit/node/outside"
	"tacit/node/peers"
	"tacit/node/reconcile"
	"tacit/node/records"
	"tacit/node/routing"
	"tacit/node/secrets"
	"tacit/node/selfprobe"
	"tacit/node/store"
	"tacit/node/workload"
	"tacit/node/zone"
	"tacit/policy/ledger"
	"tacit/redirect/sockdiag"
	"tacit/tproxy"
)

// open does what changes the host, in the order that keeps it closed: the
// daemon's own cgroup before any socket, membership before the kernel, the
// kernel's refusals before routes, routes before names.
func (n *Node) open(ctx context.Context) error {
	for _, step := range []func(context.Context) error{n.beginTerm, n.enterCgroup, n.openPorts, n.enterMesh, n.openInventory, n.openDeadline, n.build, n.capture} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// beginTerm asks the daemon that runs here to hand over, if this one is to take over.
func (n *Node) beginTerm(context.Context) (err error) {
	if n.term, err = handover.Begin(n.cfg); err == nil {
		n.opened(n.term)
	}
	return err
}

// enterCgroup moves this process into the cgroup whose sockets are exempt.
func (n *Node) enterCgroup(context.Context) error {
	var err error
	if n.tree, err = workload.NewTree(n.cfg.Cgroup); err != nil {
		return err
	}
	if err := secrets.Check(n.cfg.StateDir); err != nil {
		return err
	}
	if n.store, err = store.Open(n.cfg.StateDir); err != nil {
		return err
	}
	n.opened(n.store)
	from, err := workload.Own()
	if err != nil {
		return err
	}
	if _, err = n.tree.EnterDaemon(n.term.Given.Daemons()...); err != nil {
		return err
	}
	n.from = from
	n.limits = limits.New(n.board, n.log, n.nudge)
	n.opened(n.limits)
	n.board.Count("connections for want of descriptors or memory", n.limits.Headroom.Refused)
	return nil
}

// openPorts opens the lane port and the CLI's socket and tries the gossip port,
// before anything is changed that a port in use would leave half done.
func (n *Node) openPorts(ctx context.Context) error {
	var err error
	if n.port, err = peers.Open(ctx, n.cfg, n.term.Inherited); err != nil {
		return err
	}
	n.opened(n.port)
	if n.metrics, err = metrics.Open(ctx, n.cfg, n.term.Inherited); err != nil {
		return err
	}
	n.opened(n.metrics)
	if n.term.Given != nil {
		return nil // the incumbent has the others still
	}
	if err := gossip.TryPort(ctx, netip.AddrPortFrom(n.cfg.Addr, n.cfg.GossipPort)); err != nil {
		return peers.PortError("--gossip-port", n.cfg.GossipPort, err)
	}
	if err := os.MkdirAll(n.cfg.RunDir, 0o755); err != nil {
		return fmt.Errorf("--run-dir: %w", err)
	}
	return n.openSocket(api.Listen)
}

// openSocket opens the CLI's socket.
func (n *Node) openSocket(open func(path string) (net.Listener, error)) (err error) {
	if n.socket, err = open(n.cfg.Socket()); err == nil {
		n.opened(n.socket)
	}
	return err
}

// enterMesh makes this node a member, with its records, its issuer and its
// certificates.
func (n *Node) enterMesh(ctx context.Context) error {
	member, held, err := membership.Enter(ctx, n.cfg, n.store)
	if err != nil {
		return err
	}
	n.member = member
	n.records, err = records.New(records.Config{Self: n.cfg.Name, Key: member.Key, Ledger: held, Store: n.store, Health: n.board, Log: n.log,
		Changed: n.nudge, Wait: !n.cfg.Alone, After: n.term.Given.Reached(), Own: member.Holds, Learned: func(recs []ledger.Record) { n.audit.Note(recs) }})
	if err != nil {
		return err
	}
	n.audit, err = audit.Open(audit.Config{Dir: n.cfg.StateDir, View: n.records.View(), Health: n.board, Log: n.log, Now: time.Now})
	if err != nil {
		return err
	}
	n.opened(n.audit)
	n.mending = membership.NewMending(membership.MendingConfig{Member: member, Settings: n.cfg, Store: n.store, View: n.records.View(),
		Exchanged: n.records.Exchanged(), CaughtUp: n.readdressed, Health: n.board, Log: n.log})
	n.issuer = membership.NewIssuer(membership.IssuerConfig{Member: member, Self: n.cfg.Name, Records: n.records, Tokens: n.store, Log: n.log})
	n.certificates = membership.NewCertificates(membership.CertificatesConfig{Member: member, Settings: n.cfg, Roll: n.records.View(),
		Issuer: n.issuer, Check: membership.CheckPeer(n.records.View()), Health: n.board, Log: n.log})
	for _, c := range n.term.Given.Certificates() {
		if err := n.certificates.Inherit(c.Service, c.Chain, c.Key); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) openInventory(context.Context) error {
	return n.base.openInventory()
}

// openInventory reads what is defined on this node.
func (b *base) openInventory() error {
	var err error
	if b.numbers, err = b.store.Numbers(b.log); err != nil {
		return err
	}
	b.inventory, err = inventory.Open(inventory.Config{Settings: b.cfg, Tree: b.tree, Store: b.store, Health: b.board, Log: b.log})
	return err
}

func (n *Node) openDeadline(context.Context) error {
	var err error
	n.deadline, err = lifecycle.OpenDeadline(lifecycle.DeadlineConfig{Settings: n.cfg, Tree: n.tree, From: n.from, Log: n.log})
	return err
}

// load attaches the programs; daemon 0 exempts nobody.
func (b *base) load(view *inventory.View, daemon uint64) error {
	guards, _ := view.Guards(inventory.EphemeralPorts())
	var err error
	b.hooks, b.enforcer, err = datapath.Load(datapath.LoadConfig{Settings: b.cfg, Tree: b.tree, Numbers: b.numbers, Guards: guards, Daemon: daemon, Log: b.log})
	return err
}

// build loads the programs, which only refuse so far, and builds the parts
// that capture needs; nothing runs yet.
func (n *Node) build(context.Context) error {
	view, err := n.inventory.Defined()
	if err != nil {
		return err
	}
	daemon, err := n.tree.DaemonID()
	if err != nil {
		return err
	}
	if err := n.load(view, daemon); err != nil {
		return err
	}
	n.opened(n.hooks)
	if n.journal, err = journal.New(n.enforcer); err != nil {
		return err
	}
	check := membership.CheckPeer(n.records.View())
	n.addresses = datapath.NewAddresses(n.cfg.Addr, n.board)
	n.buildOutside()
	n.balancer = balance.New(n.log, n.leaving)
	router := routing.New(routing.Config{Enforcer: n.enforcer, Numbers: n.numbers, Picture: func() routing.Picture { return n.loop }, Balancer: n.balancer,
		Inventory: n.inventory, Granted: n.records.View().Granted, Alive: n.alive, Dialer: n.dialer(), Outside: n.outside.Dial, Self: n.cfg.Name, Hooks: n.cfg.Redirect != config.TPROXY})
	bench := &n.term.Bench
	bench.Router, bench.Peers, bench.Journal = router, check, n.journal.Ended
	if n.proxy, err = tproxy.New(tproxy.Config{Node: n.member.SVID.ID, Router: bench.Route(), Identities: n.certificates, Check: bench.Check, Log: n.log, OnEnd: bench.Ended, Headroom: n.limits.Headroom,
		Stuck: func(err error) { n.board.Set(health.Loops, "", err) }}); err != nil {
		return err
	}
	n.names = dns.New(dns.Config{Zone: n.zone(), Self: n.cfg.Name, Domains: n.cfg.Domains, Search: n.cfg.Search, Datacenter: n.cfg.Datacenter,
		ForwardConsul: n.cfg.ForwardConsul, Ranges: n.ranges(), Sender: zone.Sender(&sockdiag.Senders{}), Tag: n.tagLookup, Log: n.log})
	n.datapath = datapath.New(datapath.Config{Settings: n.cfg, Tree: n.tree, Daemon: daemon, Hooks: n.hooks, Enforcer: n.enforcer,
		Names: n.names, Health: n.board, Log: n.log, Changed: n.changed, Tampered: n.tampered, Moved: n.moved, Inherited: n.term.Inherited, Earlier: n.term.Earlier})
	n.opened(n.datapath)
	n.shadows = &dns.ShadowLog{Names: n.names, Resolvers: n.datapath.Resolvers, Search: n.datapath.Search, Log: n.log}
	n.probe, err = selfprobe.New(selfprobe.Config{Range4: n.cfg.Range4, Domains: n.cfg.Domains, Hooks: n.cfg.Redirect != config.TPROXY,
		Cgroup: n.tree.ProbePath(), Numbers: n.numbers, Virtual: n.virtual, Resolvers: n.datapath.Resolvers, Source: router.Source, Settle: n.settle})
	if err != nil {
		return err
	}
	if err := n.buildChecks(); err != nil {
		return err
	}
	n.peers, err = peers.New(peers.Config{Settings: n.cfg, Identities: n.certificates, Check: check, Lanes: n.proxy, Headroom: n.limits.Headroom, Issuer: n.issuer,
		Roll: n.records.View(), Alive: n.alive, Store: n.store, Health: n.board, Log: n.log, Changed: n.nudge, Inherited: n.term.Inherited}, n.port)
	n.buildLoop()
	return err
}

// buildOutside builds what reaches services outside of the mesh.
func (n *Node) buildOutside() {
	n.outside = outside.New(outside.Config{Resolvers: func() []netip.Addr { return n.datapath.Resolvers() }, Tag: n.tagLookup, Dial: n.dialer().Dial,
		Own: n.addresses.List, Member: n.records.View().NodeAt, Ranges: n.ranges(), Changed: n.nudge, Health: n.board, Log: n.log})
}

// buildChecks builds what runs the health checks of this node's instances.
func (n *Node) buildChecks() (err error) {
	if err := checks.Reserve(n.numbers, n.cfg.Range4.Bits()); err != nil {
		n.log.Warn("health checks can't reach guarded ports", "err", err)
	}
	n.checks, err = checks.New(checks.Config{Target: n.target, Tag: n.tagCheck, Scripts: n.tree.ChecksPath(), Changed: n.nudge, Log: n.log, Inherited: n.term.Given.ChecksLeft()})
	return err
}

// buildLoop builds what keeps the kernel, and the ports of ingresses, equal to the
// records.
func (n *Node) buildLoop() {
	view := n.records.View()
	n.loop = reconcile.New(reconcile.Config{
		Settings: n.cfg, Inventory: n.inventory, Records: view, Enforcer: n.enforcer, Peers: n.peers,
		Publisher: &reconcile.Publisher{Self: n.cfg.Name, Records: view, Signer: n.signer(), Critical: n.critical, In: n.records.OwnIn, Health: n.board, Log: n.log},
		Alive:     n.alive, Addresses: n.addresses.List, Names: n.names.Pins, Foreign: n.outside.Judge, Enrol: n.enrol, Answer: n.datapath.Answer, Want: n.want,
		Streams: func() int { n.term.Before.Sweep(); return n.proxy.Sweep() }, Announce: n.records.Announce, Save: n.saveAgain, Behind: n.mending.Behind,
		Remember: reconcile.Remotes{Settings: n.store}.Keep,
		Health:   n.board, Log: n.log,
	})
	n.ingress = ingress.New(ingress.Config{Policy: n.loop.Policy, Catalog: func() ingress.Catalog { return n.loop.Catalog() },
		Owner: n.inventory.Owner, Serve: n.proxy.ServeEntry, IPv6: n.ipv6, Inherited: n.term.Inherited, Changed: n.nudge, Health: n.board, Log: n.log})
}

// capture opens listeners and sets routes: from here on the mesh is closed.
func (n *Node) capture(ctx context.Context) error { return n.datapath.Open(ctx) }

// openGossip begins to talk to the other members.
func (n *Node) openGossip() error {
	pool, err := gossip.Start(gossip.Config{Name: n.cfg.Name, Bind: n.cfg.Addr, Port: n.cfg.GossipPort, Mesh: n.member.Bundle.Fingerprint().String(),
		Key: n.member.Key, Identities: n.certificates, Peer: n.peer, Seeds: n.seeds, Delegate: n.records, Cut: n.cut, Log: n.log})
	if err != nil {
		return peers.PortError("--gossip-port", n.cfg.GossipPort, err)
	}
	n.pool = pool
	n.opened(n.pool)
	n.board.Count("gossip packets and streams", pool.Refused)
	n.records.Connect(pool.Broadcast)
	return nil
}

// backend is what answers the CLI.
func (n *Node) backend() api.Backend {
	b := control.New(control.Config{
		Settings: n.cfg, Member: n.member, Tree: n.tree, Started: n.started, Records: n.records, Signer: n.signer(),
		Tokens:       membership.TokenMaker{Member: n.member, Self: n.cfg.Name, Roll: n.records.View(), Records: n.records, Store: n.store},
		Certificates: n.certificates, Inventory: n.inventory, Loop: n.loop, Datapath: n.datapath, Enforcer: n.enforcer,
		SelfProbe: n.probe, Checks: n.checks, Proxy: carrier{n.proxy, n.balancer, n.peers, n.limits, n.term.Before}, Names: names{n.names, n}, Deadline: n.deadline, Board: n.board, Journal: history{n.journal, n.audit}, Alive: n.alive,
	})
	b.Audit = n.audit
	b.Keys = keys.New(keys.Config{Settings: n.cfg, Member: n.member, Records: n.records, Served: n.certificates.Served, Lanes: n.proxy.Lanes,
		Cut: n.proxy.CloseLanes, Settle: n.loop.Settle})
	b.Metrics = n.metrics.Attach(metrics.Sources{Status: b.Host.Status, Nodes: b.Nodes.List, Totals: n.journal.Totals, Live: n.proxy.Flows, Stalls: n.proxy.Stalls, Room: n.enforcer.Room})
	return b
}

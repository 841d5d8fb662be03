// SPDX-License-Identifier: Apache-2.0

// Package node assembles a daemon from the rooms: it loads or makes the node's
// membership, puts capture on the host, starts gossip, lanes, names and the
// CLI's socket, and keeps the kernel's maps equal to what the records say. It
// must not hold what a sub-package or another room can hold.
package node

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/definition"
	"tacit/node/dns"
	"tacit/node/gossip"
	"tacit/node/store"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/ledger"
	"tacit/redirect"
	"tacit/tproxy"
)

// Node is one running daemon.
type Node struct {
	cfg     *settled
	log     *slog.Logger
	started time.Time

	store   *store.Store
	numbers *store.Numbers
	member  *member
	wallet  *wallet
	tree    workload.Tree
	from    string // the cgroup this process came from
	folder  *definition.Folder

	objects   hooks
	kernel    judge
	listeners *redirect.Listeners
	plan      atomic.Pointer[redirect.Plan]
	lanes     net.Listener
	socket    net.Listener // the CLI's
	pool      *gossip.Pool
	proxy     *tproxy.Proxy
	dns       *dns.Server
	resolvers *resolvers

	catalog  atomic.Pointer[catalog.Catalog]
	table    atomic.Pointer[policy.Table]
	local    atomic.Pointer[localView]
	presence presence                                 // where other nodes have proven to be
	guests   atomic.Pointer[map[uint32]identity.Name] // by the interface that leads to them

	steering  sync.Mutex             // routes and rules are set by one at a time
	admitting sync.Mutex             // one token is redeemed at a time
	signing   sync.Mutex             // one record is numbered, kept and sent at a time
	applying  sync.Mutex             // one reconciliation at a time; guards the fields below
	published string                 // the digest last announced
	judged    [32]byte               // the ledger's digest when the table was made
	swept     [32]byte               // the ledger's digest at the last sweep
	addrs     []netip.Addr           // this node's own, as last listed
	watched   []string               // where cgroups of workloads could be made
	up        map[identity.Name]bool // nodes that answered at the last reconciliation
	excluded  exclusions             // as last looked at
	unsaved   []ledger.Record        // guarded by signing: not on disk yet
	inForce   atomic.Pointer[string] // digest of the policy that the maps hold
	sweepDue  atomic.Bool
	heard     heard
	sessions  sessions // of operators on this host
	window    window   // in which the start can be confirmed
	closing   sync.Once
	journal   journal  // connections that ended or were refused
	problems  problems // what status reports besides its probes
	repairs   repairs  // what others had changed and is right again
	trials    *trials
	sentry    *redirect.Sentry
	captured  [2]atomic.Pointer[lasting] // where captured connections arrive: IPv4, IPv6
	daemonID  atomic.Uint64              // of the daemon's cgroup now
	daemonIDs sync.Map                   // all that it has had: sockets keep theirs

	kick   chan struct{} // something changed: reconcile
	places chan []string // where cgroups are watched
	found  chan struct{} // nodes or their records changed: prove their addresses
	joined chan struct{} // closed when the pool is there
}

// Run is the whole life of a daemon: until ctx ends, or something that it
// can't do without fails.
func Run(ctx context.Context, cfg Config) error {
	s, err := cfg.settle()
	if err != nil {
		return err
	}
	n := &Node{cfg: s, log: cfg.Log, started: time.Now(), kick: make(chan struct{}, 1), found: make(chan struct{}, 1), places: make(chan []string, 1), joined: make(chan struct{})}
	n.catalog.Store(catalog.New(s.name, noRecords{}, nil))
	n.table.Store(policy.NewTable(s.action, nil))
	n.local.Store(&localView{})
	n.guests.Store(&map[uint32]identity.Name{})
	defer n.close()
	if err := n.open(ctx); err != nil {
		return errors.Join(err, n.undo())
	}
	if err = n.serve(ctx); errors.Is(err, errUnconfirmed) {
		return n.takeBack()
	}
	if left, waits := n.window.left(); waits {
		n.log.Warn("stopped before tacit confirm: everything will be undone", "in", left.Round(time.Second))
	}
	return err
}

// open does what changes the host, in the order that keeps it closed: the
// daemon's own cgroup before any socket, membership before the kernel, the
// kernel's refusals before routes, routes before names.
func (n *Node) open(ctx context.Context) error {
	var err error
	if n.tree, err = workload.NewTree(n.cfg.Cgroup); err != nil {
		return err
	}
	if n.store, err = store.Open(n.cfg.StateDir); err != nil {
		return err
	}
	from, err := workload.Own()
	if err != nil {
		return err
	}
	cgroup, err := n.tree.EnterDaemon()
	if err != nil {
		return err
	}
	n.from = from
	n.daemonID.Store(cgroup)
	n.daemonIDs.Store(cgroup, true)
	if err := n.takePorts(ctx); err != nil {
		return err
	}
	if n.member, err = enter(ctx, n.cfg, n.store); err != nil {
		return err
	}
	if n.numbers, err = n.store.Numbers(n.log); err != nil {
		return err
	}
	if n.trials, err = newTrials(n); err != nil {
		return err
	}
	n.wallet = newWallet(n)
	if err := n.openFolder(); err != nil {
		return err
	}
	if err := n.openWindow(); err != nil {
		return err
	}
	return n.capture(ctx, cgroup)
}

// undo takes back what a start that failed before capture has changed. What
// capture has put into the kernel stays: it only closes.
func (n *Node) undo() error {
	if n.objects != nil || n.from == "" {
		return nil
	}
	n.close() // a socket that lives on would be exempt
	return n.tree.LeaveDaemon(n.from)
}

// serve runs everything that lives, and ends all of it when one part fails.
func (n *Node) serve(ctx context.Context) error {
	if err := n.startGossip(); err != nil {
		return err
	}
	if err := n.announce(); err != nil {
		return err
	}
	n.reconcile()
	run, cancel := context.WithCancel(context.WithoutCancel(ctx)) // all goes on while streams drain
	defer cancel()
	g, run := errgroup.WithContext(run)
	for _, part := range []func(context.Context) error{
		n.wallet.Run, n.reconcileLoop, n.findNodes, n.watchCgroups, n.watchEvents, n.watchFolder, n.watchAddrs, n.resolvers.run, n.repair,
		n.watchRoutes, n.watch, n.rejoin, n.servePresence, n.window.run,
		func(ctx context.Context) error { return n.serveAPI(ctx, n.socket) },
		func(ctx context.Context) error {
			return n.serveLanes(ctx, n.lastingly("lane port", n.lanes, n.reopenLanes))
		},
	} {
		g.Go(func() error { return part(run) })
	}
	n.serveCaptured(run, g)
	g.Go(func() error { return n.trials.run(run) })
	n.log.Info("ready", "node", n.cfg.name, "address", n.cfg.addr, "trust_domain", n.member.bundle.TrustDomain())
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	select {
	case <-ctx.Done():
	case <-run.Done(): // a part has failed
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	asked := ctx.Err() != nil
	n.drain()
	cancel()
	if err := g.Wait(); !asked || !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil // a listener that had not begun when the proxy closed
}

// drain gives live streams a moment to end by themselves; what the kernel
// holds stays, so that the mesh is closed while the daemon is away.
func (n *Node) drain() {
	if err := n.pool.Leave(time.Second); err != nil { // first: others must pick another node
		n.log.Debug("leaving", "err", err)
	}
	deadline := time.Now().Add(drainTime)
	if n.window.expire() {
		deadline = time.Now() // whoever can't confirm may be cut off from this host
	}
	for len(n.proxy.Flows()) > 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	if err := n.proxy.Close(); err != nil {
		n.log.Warn("closing the proxy", "err", err)
	}
}

const drainTime = 3 * time.Second

// close lets go of handles, in reverse order; pins and routes stay.
func (n *Node) close() { n.closing.Do(n.closeAll) }

func (n *Node) closeAll() {
	var errs []error
	if n.pool != nil {
		errs = append(errs, n.pool.Close())
	}
	for _, ln := range []net.Listener{n.lanes, n.socket} {
		if ln != nil {
			errs = append(errs, ln.Close())
		}
	}
	if n.listeners != nil {
		errs = append(errs, n.listeners.Close())
	}
	if n.objects != nil {
		errs = append(errs, n.objects.Close())
	}
	if n.sentry != nil {
		errs = append(errs, n.sentry.Close())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	for _, err := range errs {
		if err != nil && !errors.Is(err, net.ErrClosed) {
			n.log.Warn("closing", "err", err)
		}
	}
}

// takePorts opens the lane port and tries the gossip port, before anything is
// changed that a port in use would leave half done.
func (n *Node) takePorts(ctx context.Context) error {
	ln, err := listenTCP(ctx, n.cfg.addr, n.cfg.LanePort)
	if err != nil {
		return portError("--lane-port", n.cfg.LanePort, err)
	}
	n.lanes = ln
	gossip, err := listenTCP(ctx, n.cfg.addr, n.cfg.GossipPort)
	if err != nil {
		return portError("--gossip-port", n.cfg.GossipPort, err)
	}
	udp, err := net.ListenPacket("udp", gossip.Addr().String())
	if err != nil {
		return errors.Join(portError("--gossip-port", n.cfg.GossipPort, err), gossip.Close())
	}
	if err := errors.Join(udp.Close(), gossip.Close()); err != nil {
		return err
	}
	n.socket, err = n.listenAPI()
	return err
}

// serveLanes hands each connection to what its ALPN says: a lane, an
// enrolment, or a renewal.
func (n *Node) serveLanes(ctx context.Context, ln net.Listener) error {
	conf := serverTLS(n)
	gate := make(chan struct{}, maxHandshakes)
	return accept(ctx, ln, func(conn net.Conn) {
		select {
		case gate <- struct{}{}:
		default:
			_ = conn.Close() // a flood of handshakes must not take the memory
			return
		}
		go n.serveLane(ctx, tls.Server(conn, conf), func() { <-gate })
	})
}

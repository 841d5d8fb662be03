// SPDX-License-Identifier: Apache-2.0

// Package node assembles a daemon: it builds the parts, connects them, runs
// them and stops them. It must not hold state or rules of its own; those belong
// to a sub-package or to another room.
package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"time"

	"tacit/node/audit"
	"tacit/node/balance"
	"tacit/node/checks"
	"tacit/node/config"
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
	"tacit/node/secrets"
	"tacit/node/selfprobe"
	"tacit/node/store"
	"tacit/node/workload"
	"tacit/redirect/links"
	"tacit/tproxy"
)

// Node is one running daemon: its parts, in the order in which they are built.
type Node struct {
	base
	credentials
	traffic
	term      *handover.Term
	from      string // the cgroup that this process came from
	port      *peers.Port
	socket    net.Listener // the CLI's
	records   *records.Records
	limits    *limits.Limits
	deadline  *lifecycle.Deadline
	addresses *datapath.Addresses
	datapath  *datapath.Datapath
	checks    *checks.Manager
	peers     *peers.Peers
	loop      *reconcile.Loop
	pool      *gossip.Pool
	audit     *audit.Log
	metrics   *metrics.Exporter
	started   time.Time
	closers   []io.Closer
}

// credentials are who this node is.
type credentials struct {
	member       *membership.Member
	mending      *membership.Mending
	issuer       *membership.Issuer
	certificates *membership.Certificates
}

// traffic is what the connections and queries of programs meet.
type traffic struct {
	balancer *balance.Balancer
	proxy    *tproxy.Proxy
	ingress  *ingress.Manager
	names    *dns.Server
	shadows  *dns.ShadowLog
	journal  *journal.Journal
	outside  *outside.Reach
	probe    *selfprobe.SelfProbe
}

// base is what a daemon and `tacitd guard` have in common.
type base struct {
	cfg       *config.Settled
	ipv6      bool // this host's kernel has it
	log       *slog.Logger
	board     *health.Board
	tree      workload.Tree
	store     *store.Store
	numbers   *store.Numbers
	inventory *inventory.Inventory
	hooks     datapath.Hooks
	enforcer  datapath.Enforcer
}

// Run is the whole life of a daemon: until ctx ends, or a part that it can't do
// without fails.
func Run(ctx context.Context, c Config) error {
	s, err := c.Settle()
	if err != nil {
		return err
	}
	limiter := health.NewLimiter(s.Log.Handler())
	defer limiter.Flush()
	s.Log = slog.New(limiter)
	if err := secrets.Close(); err != nil {
		return err
	}
	n := &Node{base: base{cfg: s, ipv6: links.HasIPv6(), log: s.Log, board: health.NewBoard()}, started: time.Now()}
	if err := n.open(ctx); err != nil {
		return errors.Join(err, n.undo())
	}
	if err := secrets.Drop(); err != nil {
		s.Log.Warn("this daemon keeps all capabilities", "err", err)
	}
	err = n.serve(ctx)
	n.close()
	if errors.Is(err, lifecycle.ErrUnconfirmed) {
		return n.takeBack()
	}
	if left, waits := n.deadline.Left(); waits {
		n.log.Warn("stopped before tacit confirm: everything will be undone", "in", left.Round(time.Second))
	}
	return err
}

// undo takes back what a start that failed before capture has changed. What
// capture has put into the kernel stays: it only closes.
func (n *Node) undo() error {
	n.term.Cancel()
	n.close() // a socket that lives on would be exempt
	if n.hooks != nil || n.from == "" {
		return nil
	}
	return n.tree.LeaveDaemon(n.from)
}

// takeBack undoes a start that wasn't confirmed, as tacitd cleanup does.
func (n *Node) takeBack() error {
	err := n.tree.LeaveDaemon(n.from)
	_, more := Cleanup(n.cfg.Config)
	if err := errors.Join(err, more); err != nil {
		return errors.Join(errors.New("not confirmed in time (tacit confirm), and not everything could be undone; run tacitd cleanup"), err)
	}
	return errors.New("not confirmed in time (tacit confirm): everything was undone")
}

// opened has close let go of a handle.
func (n *Node) opened(c io.Closer) { n.closers = append(n.closers, c) }

// close lets go of handles, in reverse order; pins and routes stay.
func (n *Node) close() {
	for _, c := range slices.Backward(n.closers) {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			n.log.Warn("closing", "err", err)
		}
	}
}

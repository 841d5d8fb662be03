// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"tacit/node/api"
	"tacit/node/handover"
	"tacit/node/health"
)

// serve runs the parts, and ends all of them when one fails.
func (n *Node) serve(ctx context.Context) error {
	if err := n.takeCharge(); err != nil {
		return err
	}
	if err := n.openGossip(); err != nil {
		return err
	}
	if err := n.announce(); err != nil {
		return err
	}
	n.loop.Settle()
	n.term.Judge(n.ingress.Defined)                               // by what is in force now
	run, cancel := context.WithCancel(context.WithoutCancel(ctx)) // everything goes on while streams drain
	defer cancel()
	g, run := errgroup.WithContext(run)
	for _, part := range n.parts() {
		g.Go(func() error { return part(run) })
	}
	n.log.Info("ready", "node", n.cfg.Name, "address", n.cfg.Addr, "trust_domain", n.member.Bundle.TrustDomain())
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	select {
	case <-ctx.Done():
	case <-run.Done(): // a part has failed
	case <-n.term.Released():
		_, _ = daemon.SdNotify(false, fmt.Sprintf("MAINPID=%d", n.term.Successor())) // of a unit, if it hasn't started that one itself
		cancel()
		n.ingress.Close()
		n.term.Carry(ctx, n.held(), n.proxy)
		n.warn("closing the proxy", n.proxy.Close())
		return g.Wait()
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

// takeCharge is done when everything is open: from here on this daemon alone writes,
// gossips and answers.
func (n *Node) takeCharge() error {
	err := n.term.Take()
	if err == nil && n.socket == nil {
		err = n.openSocket(api.Replace)
	}
	return err
}

// held are the parts that another daemon takes over.
func (n *Node) held() handover.Parts {
	p := handover.Parts{Loop: n.loop, Datapath: n.datapath, Audit: n.audit, Checks: n.checks, Store: n.store, Services: n.certificates.Held,
		Epoch: n.records.Epoch, Alive: n.alive, Unconfirmed: n.deadline.Left, Gossip: n.pool, Programs: n.hooks}
	p.Listening = append(p.Listening, n.datapath, n.peers, n.ingress, n.metrics)
	return p
}

// parts are what lives until the daemon ends.
func (n *Node) parts() []func(context.Context) error {
	cli := n.backend()
	out := []func(context.Context) error{
		n.certificates.Run, n.loop.Run, n.peers.Run, n.datapath.Run, n.probe.Run, n.checks.Run, n.outside.Run, n.deadline.Run,
		func(ctx context.Context) error { return n.inventory.Run(ctx, n.nudge) },
		func(ctx context.Context) error { return n.addresses.Run(ctx, n.readdressed) },
		func(ctx context.Context) error { return n.enforcer.Events(ctx, n.refused) },
		func(ctx context.Context) error { return n.hooks.Listening(ctx, n.loop.Look) },
		func(ctx context.Context) error {
			return api.Serve(ctx, "the CLI's socket", api.NewServer(cli, n.log), n.socket)
		},
		func(ctx context.Context) error { return n.term.Answer(ctx, n.held()) },
		n.metrics.Run, n.limits.Run, n.reloads, n.announcing, n.mending.Run,
	}
	for _, ln := range n.datapath.Captured() {
		out = append(out, func(ctx context.Context) error { return n.proxy.Serve(ctx, n.probe.Listener(ln)) })
	}
	return out
}

const (
	retireTime = time.Second // until another node has been told
	drainTime  = 3 * time.Second
	drainTick  = 20 * time.Millisecond
)

// drain has others choose another node where there is one, and gives live streams a
// moment to end. Everything is served until then: whoever has no choice, as a caller on
// this node, is refused for no longer than the daemon is away. What the kernel holds
// stays, so that the mesh is closed meanwhile.
func (n *Node) drain() {
	if n.deadline.Expired() { // whoever can't confirm may be cut off from this host
		n.warn("leaving the mesh", n.pool.Leave(retireTime))
	} else {
		began := time.Now()
		n.warn("announcing the stop", n.pool.Retire(retireTime))
		n.log.Info("stopping", "live", len(n.proxy.Flows()), "at_most", drainTime)
		for len(n.proxy.Flows()) > 0 && time.Since(began) < drainTime {
			time.Sleep(drainTick)
		}
	}
	n.ingress.Close()
	n.warn("closing the proxy", n.proxy.Close())
}

// warn logs what has failed.
func (n *Node) warn(what string, err error) {
	if err != nil {
		n.log.Warn(what, "err", err)
	}
}

// readdressed is called when this host's addresses have changed.
func (n *Node) readdressed() {
	n.board.Set(health.Announcement, "", n.announce())
	n.nudge()
}

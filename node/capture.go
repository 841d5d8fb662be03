// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"tacit/bpf"
	"tacit/node/dns"
	"tacit/policy/kernel"
	"tacit/redirect"
	"tacit/tproxy"
)

// capture puts the hooks, the listeners and the routes on the host.
func (n *Node) capture(ctx context.Context, daemonCgroup uint64) error {
	if err := n.loadPrograms(daemonCgroup); err != nil {
		return err
	}
	n.proxy = tproxy.New(tproxy.Config{Node: n.member.svid.ID, Router: router{n}, Identities: n.wallet,
		Check: n.checkPeer, Log: n.log, OnEnd: n.journal.ended})
	return n.steer(ctx)
}

// steer opens the listeners, tells the hooks of them, and sets the routes.
func (n *Node) steer(ctx context.Context) error {
	var err error
	if n.listeners, err = redirect.Listen(ctx, hasIPv6()); err != nil {
		return err
	}
	n.dns = dns.New(dns.Config{Zone: zone{n}, Domains: append([]string{"consul"}, n.cfg.Domains...), Search: n.search, Log: n.log})
	n.resolvers = newResolvers(n)
	if err := n.resolvers.start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if n.sentry, err = redirect.NewSentry(); err != nil {
		return err
	}
	if err := n.tellHooks(); err != nil {
		return err
	}
	return errors.Join(n.restate(), n.serving())
}

// serving tells the kernel which listeners are the daemon's life.
func (n *Node) serving() error {
	var fds []int
	for _, ln := range []*net.TCPListener{n.listeners.TCP4, n.listeners.TCP6, n.resolvers.direct[0].TCP} {
		if ln == nil {
			continue
		}
		fd, err := fdOf(ln)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	return n.objects.SetServing(fds...)
}

// repairInterval is how long chains may be missing, of whose loss nobody tells:
// what others flush only closes, so nothing is open meanwhile.
const repairInterval = 250 * time.Millisecond

// repair sets again what others have flushed, and says so.
func (n *Node) repair(ctx context.Context) error {
	tick := time.NewTicker(repairInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n.problems.set("routes", n.repairRoutes())
		n.problems.set("routes of others", n.shadowed())
	}
}

// watchRoutes sets routes and rules again as soon as the kernel tells of their
// loss. Without it, repair finds them.
func (n *Node) watchRoutes(ctx context.Context) error {
	lost, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- redirect.WatchRoutes(ctx, lost) }()
	for {
		select {
		case <-lost:
			n.problems.set("routes", n.restoreRoutes())
		case err := <-ended:
			if err != nil {
				n.log.Warn("the loss of routes is only seen every second", "err", err)
			}
			return nil
		}
	}
}

// restoreRoutes is the quick part of a repair.
func (n *Node) restoreRoutes() error {
	n.steering.Lock()
	defer n.steering.Unlock()
	missing, err := redirect.RestoreRoutes(*n.plan.Load())
	if missing {
		n.log.Warn("routes or rules were removed by others; they are set again", "err", err)
		n.repairs.note(routesCheck, "routes or rules were removed")
	}
	return err
}

// repairRoutes looks for what is missing, and sets it again. What can't be set
// is in the log once.
func (n *Node) repairRoutes() error {
	missing, err := n.drift()
	if err != nil || len(missing) == 0 {
		return err
	}
	err = n.restate()
	before := n.problems.get("routes")
	if err != nil && before != nil && before.Error() == err.Error() {
		return err
	}
	n.log.Warn("routes or rules were changed by others; setting them again", "found", missing, "err", err)
	if err == nil {
		n.repairs.note(routesCheck, missing[0]+andMore(len(missing)-1))
	}
	return err
}

// drift is how routes and rules differ from the plan, while nobody of us is
// changing them.
func (n *Node) drift() ([]string, error) {
	n.steering.Lock()
	defer n.steering.Unlock()
	return n.sentry.Drift(*n.plan.Load())
}

func andMore(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

// shadowed names the routes of others that take captured connections away. The
// hooks keep what they take from leaving the host.
func (n *Node) shadowed() error {
	found, err := n.sentry.Shadows(redirect.Config{Range4: n.cfg.Range4, Range6: n.cfg.Range6})
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range found {
		if s.Taken {
			errs = append(errs, fmt.Errorf("%s takes captured connections away: remove it (ip route del)", s.Route))
		}
	}
	return errors.Join(errs...)
}

// restate makes the routes and rules anew from the present listeners and resolvers.
func (n *Node) restate() error {
	n.steering.Lock()
	defer n.steering.Unlock()
	config, err := n.redirectConfig()
	if err != nil {
		return err
	}
	plan := redirect.NewPlan(config)
	n.plan.Store(&plan)
	return redirect.Apply(plan)
}

// tellHooks hands the listeners to the program that assigns captured connections.
func (n *Node) tellHooks() error {
	var out bpf.Listeners
	var errs [6]error
	take := func(i int, to *bpf.Socket, from syscall.Conn, port uint16) {
		fd, err := fdOf(from)
		*to, errs[i] = bpf.Socket{FD: fd, Port: port}, err
	}
	for i, ln := range []*net.TCPListener{n.listeners.TCP4, n.listeners.TCP6} {
		if ln != nil {
			take(i, &out.Proxy[i], ln, portOf(ln))
		}
	}
	for i, ln := range n.resolvers.direct {
		if ln != nil {
			take(2+i, &out.NamesUDP[i], ln.UDP, ln.Port())
			take(4+i, &out.NamesTCP[i], ln.TCP, ln.Port())
		}
	}
	return errors.Join(append(errs[:], n.objects.SetListeners(out))...)
}

func fdOf(ln syscall.Conn) (int, error) {
	raw, err := ln.SyscallConn()
	if err != nil {
		return -1, err
	}
	out := -1
	err = raw.Control(func(fd uintptr) { out = int(fd) })
	return out, err
}

func (n *Node) redirectConfig() (redirect.Config, error) {
	c, noIptables := n.cfg.redirectConfig(n.resolvers.addrs())
	c.Port4, c.Port6 = n.listeners.Ports()
	c.DNSPort4, c.DNSPort6 = n.resolvers.foreignPorts()
	if h, ok := n.kernel.(*hookless); ok {
		err := h.steer(&c)
		return c, err
	}
	if noIptables {
		n.log.Warn(adviceIptables)
	}
	return c, nil
}

// serveCaptured accepts what the hooks and TPROXY deliver.
func (n *Node) serveCaptured(ctx context.Context, g *errgroup.Group) {
	for i, ln := range []*net.TCPListener{n.listeners.TCP4, n.listeners.TCP6} {
		if ln == nil {
			continue
		}
		l := n.lastingly("captured connections", ln, func() (net.Listener, error) { return n.reopenCaptured(i == 1) })
		n.captured[i].Store(l)
		g.Go(func() error { return n.proxy.Serve(ctx, trialed{l, n.trials}) })
	}
}

func portOf(ln net.Listener) uint16 { return uint16(ln.Addr().(*net.TCPAddr).Port) }

func hasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// watchEvents logs each refusal that the hooks made, with its one reason.
func (n *Node) watchEvents(ctx context.Context) error {
	var quota quota
	return n.kernel.Events(ctx, func(e kernel.Event) {
		if n.trials.saw(e) {
			return
		}
		n.journal.refused(e)
		if !quota.take(e.Time) {
			return // the counters have it
		}
		n.log.Info("connection refused", "source", orNobody(string(e.Source)), "destination", e.Destination,
			"reason", e.Reason, "target", e.Target, "pid", e.PID, "program", e.Comm)
	})
}

// quota lets 50 refusals a second into the log: any local program can cause them.
type quota struct {
	second int64
	used   int
}

func (q *quota) take(now time.Time) bool {
	if s := now.Unix(); s != q.second {
		q.second, q.used = s, 0
	}
	q.used++
	return q.used <= 50
}

func orNobody(s string) string {
	if s == "" {
		return "nobody"
	}
	return s
}

// watchAddrs wakes the loop when this node's addresses change.
func (n *Node) watchAddrs(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() { done <- redirect.WatchAddrs(ctx, changed) }()
	for {
		select {
		case <-changed:
			n.problems.set("announce", n.announce())
			n.nudge()
		case err := <-done:
			return err
		}
	}
}

// localAddrs are this node's addresses; while they can't be listed, the last
// known ones: a missing one would leave its ports unjudged.
func (n *Node) localAddrs() []netip.Addr {
	addrs, err := redirect.LocalAddrs()
	n.problems.set("addresses", err)
	if err == nil {
		n.addrs = append(addrs, n.cfg.addr)
	}
	return n.addrs
}

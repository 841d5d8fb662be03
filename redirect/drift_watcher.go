// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// DriftWatcher finds out when this network namespace's routes, rules and chains differ from a plan. [DriftWatcher.Watch]
// waits for the kernel's notices of changes; [DriftWatcher.Drift] compares, at the cost of a few system calls where nothing
// can have changed. Its methods may be called from many goroutines at once.
type DriftWatcher struct {
	routes *notices
	chains *notices // nil: the kernel gives none
	legacy bool     // iptables' backend, which gives no notices

	mu                   sync.Mutex
	rules                ruleset // that Drift has found right
	rulesDue, routesDue  bool
	rulesSeen, routeSeen time.Time
	shadowsDue           bool
	shadows              []Shadow
}

// Longest times between two comparisons, for calls of Drift.
const (
	routesAnyway = 3 * time.Second // some IPv4 routes go without a notice
	rulesAnyway  = 3 * time.Second // of the legacy backend
)

// quietTime is the least time between two sends of Watch: a host whose rules change all the time isn't compared more often.
const quietTime = 250 * time.Millisecond

// NewDriftWatcher subscribes to the notices of the calling thread's network namespace. The first Drift compares everything.
func NewDriftWatcher() (*DriftWatcher, error) {
	routes, err := openNotices("routes", unix.NETLINK_ROUTE, routeGroups, concernsRoutes)
	if err != nil {
		return nil, err
	}
	w := &DriftWatcher{routes: routes, legacy: usesLegacy(), rulesDue: true, routesDue: true, shadowsDue: true}
	if chains, err := openNotices("chains", unix.NETLINK_NETFILTER, chainGroups, concernsChains); err == nil {
		w.chains = chains
	}
	return w, nil
}

// NoticesChains says whether Watch sees changes of chains. If not (iptables' legacy backend, or a kernel without
// nfnetlink), only Drift finds them: call it often.
func (w *DriftWatcher) NoticesChains() bool { return w.chains != nil && !w.legacy }

// Close ends the subscriptions. A Watch that is under way ends with an error.
func (w *DriftWatcher) Close() error {
	err := w.routes.file.Close()
	if w.chains != nil {
		err = errors.Join(err, w.chains.file.Close())
	}
	return err
}

// Watch sends on changed when a route, rule or chain of the plan may have been removed, replaced, or had another one put
// before it, by this process too; at once after a quiet time, else within 250 ms. It never blocks on changed, so give it
// room for one. It returns nil when ctx ends. Call it once.
func (w *DriftWatcher) Watch(ctx context.Context, changed chan<- struct{}) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.follow(ctx, w.routes, changed) })
	if w.chains != nil {
		g.Go(func() error { return w.follow(ctx, w.chains, changed) })
	}
	return g.Wait()
}

// follow reads the notices of one subscription.
func (w *DriftWatcher) follow(ctx context.Context, n *notices, changed chan<- struct{}) error {
	defer context.AfterFunc(ctx, func() { _ = n.file.SetReadDeadline(time.Unix(1, 0)) })()
	for {
		var ours bool
		err := n.conn.Read(func(fd uintptr) (any bool) {
			any, ours = w.take(n, int(fd))
			return any
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("watch %s: %w", n.what, err)
		case !ours:
			continue
		}
		notify(changed)
		select {
		case <-ctx.Done():
		case <-time.After(quietTime):
		}
	}
}

// take reads the notices that wait, and has Drift compare routes after any of rtnetlink's. Chains it compares when
// nftables' generation has changed.
func (w *DriftWatcher) take(n *notices, fd int) (any, ours bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	any, ours = n.drain(fd)
	if any && n == w.routes {
		w.routesDue, w.shadowsDue = true, true
	}
	return any, ours
}

// Drift is [Drift], at the cost of a few system calls if nothing can have changed. Some changes give no cheap sign (rules of
// the legacy backend, some IPv4 routes), so it compares everything that they concern at least every three seconds.
func (w *DriftWatcher) Drift(p Plan) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	rules := readRuleset(w.legacy)
	w.rulesDue = w.rulesDue || rules != w.rules || (w.legacy && now.Sub(w.rulesSeen) >= rulesAnyway)
	w.routesDue = w.routesDue || w.routes.waiting() || now.Sub(w.routeSeen) >= routesAnyway
	w.shadowsDue = w.shadowsDue || w.routesDue
	if w.rulesDue {
		lines, err := Drift(p)
		if err == nil && len(lines) == 0 {
			w.rules, w.rulesDue, w.rulesSeen, w.routesDue, w.routeSeen = rules, false, now, false, now
		}
		return lines, err
	}
	if !w.routesDue {
		return nil, nil
	}
	lines, err := driftOfRoutes(kernelHost{}, p)
	w.routesDue, w.routeSeen = err != nil || len(lines) > 0, now
	return lines, err
}

// driftOfRoutes is [drift] without the chains.
func driftOfRoutes(h host, p Plan) ([]string, error) {
	var d difference
	if err := errors.Join(compareRoutes(&d, h, p), compareRules(&d, h, p)); err != nil {
		return nil, err
	}
	return d.lines(), nil
}

// notify sends unless one send is waiting to be received.
func notify(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}

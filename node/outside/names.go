// SPDX-License-Identifier: Apache-2.0

package outside

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tacit/identity"
	"tacit/node/dns/client"
	"tacit/node/health"
)

const (
	minTTL     = 5 * time.Second  // an answer is kept at least that long ...
	maxTTL     = 5 * time.Minute  // ... and at most that long
	retryTime  = 2 * time.Second  // until a look-up that failed is repeated
	staleTime  = 10 * time.Minute // how long an answer counts while no resolver gives another one
	lookLimit  = 5 * time.Second  // for one look-up
	maxLookups = 8                // that run at the same time
)

// name is a real name and what it resolves to. Reach.mu guards it, but asking is
// taken first by whoever looks it up.
type name struct {
	host    string
	service identity.Name
	asking  sync.Mutex

	known bool // it has been looked up
	addrs []netip.Addr
	err   error     // why the last look-up failed
	got   time.Time // when addrs were the answer
	due   time.Time // when to look again
}

// Run keeps the names up to date until ctx ends.
func (r *Reach) Run(ctx context.Context) error {
	for {
		var again <-chan time.Time
		if wait, any := r.refresh(ctx); any {
			again = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again:
		case <-r.wake:
		}
	}
}

// refresh looks up the names that are due, and returns when the next one is; any:
// there is one.
func (r *Reach) refresh(ctx context.Context) (wait time.Duration, any bool) {
	var g errgroup.Group
	g.SetLimit(maxLookups)
	for _, host := range r.due(time.Now()) {
		g.Go(func() error {
			r.resolve(ctx, host)
			return nil
		})
	}
	_ = g.Wait() // none of them fails
	r.mu.Lock()
	defer r.mu.Unlock()
	now, problems := time.Now(), map[string]error{}
	for host, n := range r.names {
		problems[host] = n.err
		for _, a := range n.addrs {
			problems[host] = errors.Join(problems[host], r.Judge(a))
		}
		if left := n.due.Sub(now); !any || left < wait {
			wait, any = left, true
		}
	}
	r.conf.Health.Replace(health.Resolve, problems)
	return wait, any
}

func (r *Reach) due(now time.Time) (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for host, n := range r.names {
		if !now.Before(n.due) {
			out = append(out, host)
		}
	}
	return out
}

// resolve looks a name up if it is due. Of several that ask at once, one does.
func (r *Reach) resolve(ctx context.Context, host string) {
	r.mu.Lock()
	n := r.names[host]
	r.mu.Unlock()
	if n == nil {
		return
	}
	n.asking.Lock()
	defer n.asking.Unlock()
	r.mu.Lock()
	due := !time.Now().Before(n.due)
	r.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	a, err := r.look(ctx, n.service, host)
	r.mu.Lock()
	changed := n.take(a, err, time.Now())
	r.mu.Unlock()
	if changed {
		r.conf.Log.Info("real name of an outside service", "service", n.service, "name", host, "addresses", a.Addrs, "err", err)
		r.conf.Changed()
	}
}

// take notes an answer, and reports whether it is another one than the last.
func (n *name) take(a client.Answer, err error, now time.Time) (changed bool) {
	was := n.addrs
	first := !n.known
	n.known, n.err = true, nil
	switch {
	case err == nil:
		n.addrs, n.got, n.due = a.Addrs, now, now.Add(min(max(a.TTL, minTTL), maxTTL))
	case errors.Is(err, client.ErrNoAddress) || now.Sub(n.got) > staleTime:
		n.addrs = nil
		fallthrough
	default:
		n.err, n.due = fmt.Errorf("%s: %w", n.service, err), now.Add(retryTime)
	}
	return first || !slices.Equal(slices.SortedFunc(slices.Values(was), netip.Addr.Compare), slices.SortedFunc(slices.Values(n.addrs), netip.Addr.Compare))
}

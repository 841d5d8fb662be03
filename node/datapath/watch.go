// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tacit/node/health"
	"tacit/policy/shortage"
	"tacit/redirect"
)

// How often the watch looks at what others can change. A look where nothing is
// wrong costs well under a millisecond, but for the maps of a large mesh.
const (
	watchInterval = time.Second
	slowInterval  = 2 * time.Second        // maps, ports and settings of the host
	pollInterval  = 250 * time.Millisecond // rules whose loss the kernel doesn't announce
	longestUnread = 3500 * time.Millisecond
	readingAtMost = 50 // the maps rest for so many times as long as reading them takes
)

// watch is the only place where the host is repaired: programs, pins, maps,
// routes, rules, listeners and the daemon's own cgroup.
func (d *Datapath) watch(ctx context.Context) error {
	lost, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- d.drift.Watch(ctx, lost) }()
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	if plan := d.Plan(); d.drift.NoticesChains() || !plan.TPROXY() {
		poll.Stop() // the kernel announces every loss
	}
	var due schedule
	unless := func(repair func()) { // another daemon takes over
		d.holding.Lock()
		defer d.holding.Unlock()
		if ctx.Err() == nil {
			repair()
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-lost:
			unless(d.repairRoutes)
		case <-poll.C:
			unless(d.repairRoutes)
		case <-tick.C:
			unless(func() { tick.Reset(d.lookAround(&due)) })
		case err := <-ended:
			if err != nil {
				d.conf.Log.Warn("the kernel's notices of lost routes and chains ended; looking for losses instead", "err", err)
				poll.Reset(pollInterval)
			}
			ended = nil
		}
	}
}

// schedule is when the costlier looks are due.
type schedule struct{ maps, slow time.Time }

// lookAround returns when to look again. It does nothing while there are no descriptors
// to look with: the kernel enforces what it has, and what can't be opened would look as
// if it were gone.
func (d *Datapath) lookAround(due *schedule) (again time.Duration) {
	err := shortage.Now()
	if d.conf.Health.Set(health.Look, "", err); err != nil {
		return pollInterval
	}
	d.watchPlace()
	d.watchObjects()
	d.repairRoutes()
	d.conf.Health.Set(health.OtherRoutes, "", d.shadowed())
	if now := time.Now(); !now.Before(due.maps) {
		d.watchMaps()
		due.maps = now.Add(min(max(slowInterval-watchInterval/2, readingAtMost*time.Since(now)), longestUnread))
	}
	if now := time.Now(); !now.Before(due.slow) {
		d.watchPorts()
		d.watchHost()
		due.slow = now.Add(slowInterval - watchInterval/2)
	}
	return watchInterval
}

// watchObjects puts programs, pins and small maps right.
func (d *Datapath) watchObjects() {
	bad := map[health.Family]map[string]error{health.Hook: {}, health.Map: {}}
	for _, r := range d.conf.Hooks.Repair() {
		if r.Err != nil {
			family, object, _ := strings.Cut(r.Object, " ")
			bad[health.Family(family)][object] = fmt.Errorf("%s, and not repaired: %w", orUnknown(r.Found), r.Err)
			continue
		}
		d.conf.Log.Warn("changed by others; put right", "object", r.Object, "found", r.Found)
		d.conf.Health.Repaired(r.Object, r.Found)
		if r.Object == "map settings" { // which holds the default
			d.conf.Tampered(r.Object)
		}
	}
	for family, problems := range bad {
		d.conf.Health.Replace(family, problems)
	}
}

func orUnknown(found string) string {
	if found == "" {
		return "can't be examined"
	}
	return found
}

// watchMaps reads the larger maps back, and has them written again where
// others wrote.
func (d *Datapath) watchMaps() {
	changed, err := d.conf.Enforcer.Verify()
	d.conf.Health.Set(health.MapsUnread, "", err)
	for _, name := range changed {
		d.conf.Log.Warn("changed by others; writing it again", "object", "map "+name)
		d.conf.Health.Repaired("map "+name, "changed by others")
	}
	if len(changed) > 0 {
		d.conf.Tampered("map " + strings.Join(changed, ", "))
	}
}

// watchHost looks for settings of the host that keep TPROXY from working.
func (d *Datapath) watchHost() {
	var err error
	if plan := d.Plan(); plan.TPROXY() {
		if found := redirect.Hindrances(); len(found) > 0 {
			err = errors.New(strings.Join(found, "; "))
		}
	}
	d.conf.Health.Set(health.Host, "", err)
}

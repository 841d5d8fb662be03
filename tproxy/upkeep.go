// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"time"

	"tacit/policy"
)

// upkeep finds what no goroutine waits for: certificates that ended, peers that
// fell silent, lanes that got old, and streams whose reader is gone.
func (p *Proxy) upkeep() {
	t := time.NewTicker(upkeepPeriod)
	defer t.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case now := <-t.C:
			p.tick.Add(1)
			p.lanes.prune(now)
			for _, l := range p.lanes.all() {
				p.checkLane(l, now)
			}
			for _, s := range p.all() {
				s.cutStalled()
			}
		}
	}
}

func (p *Proxy) checkLane(l *lane, now time.Time) {
	switch {
	case l.expired(now):
		l.abort(policy.ReasonExpired)
	case l.silent(now):
		l.abort(policy.ReasonLane)
	case !l.dialled && l.idleFor(now) > 2*p.cfg.IdleTimeout:
		l.abort(policy.ReasonIdle)
	case l.outdated():
		p.work.Go(func() { l.reprove(now) }) // in a goroutine, since sending on a stalled lane blocks
	}
}

// sift ends idle lanes that are too old, broken or stale.
func (ps *pools) prune(now time.Time) {
	ps.mu.Lock()
	peers := make([]*pool, 0, len(ps.peers))
	for _, q := range ps.peers {
		peers = append(peers, q)
	}
	ps.mu.Unlock()
	for _, q := range peers {
		q.prune(now, ps.cfg.IdleTimeout)
	}
}

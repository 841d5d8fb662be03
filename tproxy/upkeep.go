// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"time"

	"tacit/policy"
)

// clean looks after what nobody waits for: certificates that end, peers that
// fell silent, lanes that got old, streams that nobody reads.
func (p *Proxy) clean() {
	t := time.NewTicker(janitorPeriod)
	defer t.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case now := <-t.C:
			p.tick.Add(1)
			p.lanes.sift(now)
			for _, l := range p.lanes.all() {
				p.look(l, now)
			}
			for _, s := range p.all() {
				s.reap()
			}
		}
	}
}

func (p *Proxy) look(l *lane, now time.Time) {
	switch {
	case l.expired(now):
		l.abort(policy.ReasonExpired)
	case l.silent(now):
		l.abort(policy.ReasonLane)
	case !l.dialled && l.idleFor(now) > 2*p.cfg.IdleTimeout:
		l.abort(policy.ReasonIdle)
	case l.outdated():
		p.work.Go(func() { l.reprove(now) }) // a lane that is stalled may keep it waiting
	}
}

// sift ends idle lanes that are too old, broken or stale.
func (ps *pools) sift(now time.Time) {
	ps.mu.Lock()
	peers := make([]*pool, 0, len(ps.peers))
	for _, q := range ps.peers {
		peers = append(peers, q)
	}
	ps.mu.Unlock()
	for _, q := range peers {
		q.sift(now, ps.cfg.IdleTimeout)
	}
}

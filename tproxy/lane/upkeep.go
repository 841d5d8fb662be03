// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"errors"
	"time"

	"tacit/policy"
	"tacit/tproxy/lane/frame"
)

// Upkeep finds what no event tells: certificates that ended, peers that fell silent,
// and lanes that got old. Call it every UpkeepPeriod.
func (s *Set) Upkeep(now time.Time) {
	for _, l := range s.all() {
		if l.due.CompareAndSwap(false, true) { // a loop that is late counts one round, not all that it has missed
			l.loop.Do(func() {
				l.due.Store(false)
				l.upkeep(now)
			})
		}
	}
}

func (l *lane) upkeep(now time.Time) {
	if l.ending {
		return
	}
	l.moved.Store(0)
	l.guest.Way.Learn(l.conn.Path())
	if gone := l.services.Lapsed(now); len(gone) > 0 {
		l.cut(gone, policy.ReasonExpired, "the certificate of its service has ended")
	}
	stuck, silent := l.pulse.Round(l.conn.Unacked(), l.blocked, l.paused || l.readable)
	if l.guest.Carried.Load() > 0 && now.Sub(l.heard) >= UpkeepPeriod {
		l.ask()
	}
	switch {
	case l.expired(now):
		l.endNow(policy.ReasonExpired, errors.New("the certificate of its node has ended"))
	case l.stalled(now):
		l.endNow(policy.ReasonSlow, errors.New("the rest of a record doesn't come"))
	case stuck:
		l.endNow(policy.ReasonSlow, errors.New("it takes nothing"))
	case silent:
		l.endNow(policy.ReasonLane, errors.New("it gives no sign of life"))
	case l.idle(now):
		l.finish()
	case l.outdated():
		l.work.Go(func() { l.reprove(now) })
	default:
		l.reproveServices()
	}
}

// stalled says whether the peer has stopped in the middle of a record.
func (l *lane) stalled(now time.Time) bool {
	return len(l.tail) > 0 && !l.paused && now.Sub(l.heard) > frameTimeout
}

// ask sends a PING, unless one is under way.
func (l *lane) ask() {
	if l.pulse.Ask(l.out.Pending() + frame.HeaderSize) {
		l.send(frame.Ping, 0, nil)
	}
}

// idle says whether the lane has carried nothing for so long that it isn't kept. The
// end that dialled it ends it first.
func (l *lane) idle(now time.Time) bool {
	keep := l.cfg.IdleTimeout
	if !l.dialled {
		keep *= 2
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.retiring {
		keep = dialTimeout // the other end should have ended it
	}
	return l.live == 0 && (now.Sub(l.idleAt) > keep || l.dialled && l.nodes.Stale(now))
}

// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"time"

	"tacit/policy"
	"tacit/tproxy/socket"
)

// Upkeep finds what no goroutine waits for: certificates that ended, peers that
// fell silent, and lanes that got old. Call it every UpkeepPeriod.
func (s *Set) Upkeep(now time.Time) {
	s.prune(now)
	for _, l := range s.all() {
		s.check(l, now)
	}
}

func (s *Set) check(l *lane, now time.Time) {
	switch {
	case l.expired(now):
		l.abort(policy.ReasonExpired)
	case l.tcp.Stalled(frameTimeout):
		l.abort(policy.ReasonSlow)
	case l.lapsed(now) != "":
		l.abort(policy.ReasonExpired)
	case l.silent(now):
		l.abort(policy.ReasonLane)
	case !l.dialled && l.idleFor(now) > 2*s.cfg.IdleTimeout:
		l.abort(policy.ReasonIdle)
	case l.outdated():
		s.work.Go(func() { l.reprove(now) }) // in a goroutine, since sending on a stalled lane blocks
	default:
		if service, ok := l.behind(); ok {
			s.work.Go(func() { l.reproveService(service) })
		}
	}
}

// prune ends idle lanes that are too old, broken or stale.
func (s *Set) prune(now time.Time) {
	s.mu.Lock()
	peers := make([]*pool, 0, len(s.peers))
	for _, q := range s.peers {
		peers = append(peers, q)
	}
	s.mu.Unlock()
	for _, q := range peers {
		q.prune(now, s.cfg.IdleTimeout)
	}
}

// silent says whether the peer has acknowledged nothing for silenceLimit although
// bytes were under way and its window had room for them. It doesn't ask the
// kernel about a lane that has sent nothing since everything was acknowledged.
func (l *lane) silent(now time.Time) bool {
	l.mu.Lock()
	wrote := l.wrote
	l.wrote = false
	l.mu.Unlock()
	if !wrote {
		return false
	}
	info, err := socket.Info(l.raw)
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrote = l.wrote || info.Unacked > 0 || info.Notsent_bytes > 0
	switch {
	case info.Unacked == 0 || info.Snd_wnd == 0:
		l.waiting = time.Time{}
	case l.waiting.IsZero():
		l.waiting = now
	}
	return !l.waiting.IsZero() && now.Sub(l.waiting) >= silenceLimit &&
		time.Duration(info.Last_ack_recv)*time.Millisecond >= silenceLimit
}

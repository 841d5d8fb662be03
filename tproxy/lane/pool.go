// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"context"
	"slices"
	"sync"
	"time"

	"tacit/identity"
	"tacit/policy"
)

// pool holds the idle lanes that were dialled to one peer. The newest is taken
// first, so that those which aren't needed grow old and are ended.
type pool struct {
	max   int         // idle lanes
	dials int         // lanes being dialled at once
	drop  func(*lane) // ends a lane

	mu      sync.Mutex
	idle    []*lane // oldest first
	dialing int
	waiting []chan *lane // in order of arrival; each gets a lane, or nil: its turn to dial
}

// take returns a warm lane, or nil: then the caller dials a lane and calls
// dialled afterwards. It waits while the allowed number of lanes are being dialled.
func (q *pool) take(ctx context.Context, o *Opening) (*lane, error) {
	q.mu.Lock()
	if l := q.pop(o); l != nil {
		q.mu.Unlock()
		return l, nil
	}
	if q.dialing < q.dials {
		q.dialing++
		q.mu.Unlock()
		return nil, nil
	}
	turn := make(chan *lane, 1)
	q.waiting = append(q.waiting, turn)
	q.mu.Unlock()
	select {
	case l := <-turn:
		return l, nil
	case <-ctx.Done():
		q.leave(turn)
		return nil, policy.Refuse(policy.ReasonLimit, "%d lanes were being dialled already", q.dials)
	}
}

// leave stops waiting. If turn has been served meanwhile, it passes the lane or
// the turn on.
func (q *pool) leave(turn chan *lane) {
	q.mu.Lock()
	if i := slices.Index(q.waiting, turn); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.mu.Unlock()
		return
	}
	q.mu.Unlock()
	if l := <-turn; l != nil {
		q.put(l)
	} else {
		q.dialled()
	}
}

// pop takes the newest good lane, preferably one on which both services are
// proven.
func (q *pool) pop(o *Opening) *lane {
	now := time.Now()
	for len(q.idle) > 0 {
		i := len(q.idle) - 1
		for j := i; j >= 0; j-- {
			if q.idle[j].knows(o, now) {
				i = j
				break
			}
		}
		l := q.idle[i]
		q.idle = slices.Delete(q.idle, i, i+1)
		if l.good(now) {
			return l
		}
		q.drop(l)
	}
	return nil
}

// put takes an idle lane back.
func (q *pool) put(l *lane) {
	q.mu.Lock()
	if len(q.waiting) > 0 {
		turn := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		turn <- l
		return
	}
	q.idle = append(q.idle, l)
	var old *lane
	if len(q.idle) > q.max {
		old = q.idle[0]
		q.idle = slices.Delete(q.idle, 0, 1)
	}
	q.mu.Unlock()
	if old != nil {
		q.drop(old)
	}
}

// dialled passes the turn to dial to the next in the queue.
func (q *pool) dialled() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.dialing--
		return
	}
	turn := q.waiting[0]
	q.waiting = q.waiting[1:]
	turn <- nil
}

// prune ends the lanes that are no good any more.
func (q *pool) prune(now time.Time, idle time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.idle = slices.DeleteFunc(q.idle, func(l *lane) bool {
		bad := l.idleFor(now) > idle || !l.good(now)
		if bad {
			q.drop(l)
		}
		return bad
	})
}

// knows says whether the stream needs no new proof on this lane.
func (l *lane) knows(o *Opening, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.theirs[identity.ServiceID(l.cfg.Node.TrustDomain(), o.Destination)].holds(now) && l.ours[o.Source] != nil
}

// idleFor is how long the lane has carried nothing; 0 while it carries something.
func (l *lane) idleFor(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy {
		return 0
	}
	return now.Sub(l.idleAt)
}

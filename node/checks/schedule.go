// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"tacit/node/definition"
	"tacit/policy/shortage"
)

// Run runs the checks when they are due, until ctx ends and all runs with it.
// Without checks it waits for Set.
func (m *Manager) Run(ctx context.Context) error {
	var runs sync.WaitGroup
	defer runs.Wait()
	for {
		var timer <-chan time.Time
		if next := m.start(ctx, &runs); !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		case <-timer:
		}
	}
}

func (m *Manager) nudge() {
	select {
	case m.wake <- struct{}{}:
	default: // Run will look anyway
	}
}

// start begins the runs that are due, the oldest first, as far as there is
// room. It returns when the next one is due, zero for none: the end of a run
// wakes Run too.
func (m *Manager) start(ctx context.Context, runs *sync.WaitGroup) (next time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	var due []*check
	for _, c := range m.checks {
		switch {
		case c.due.IsZero() || c.stop != nil:
		case c.due.After(now):
			if next.IsZero() || c.due.Before(next) {
				next = c.due
			}
		case c.Kind == definition.CheckTTL:
			m.expire(c, now)
		default:
			due = append(due, c)
		}
	}
	slices.SortStableFunc(due, func(a, b *check) int { return a.due.Compare(b.due) })
	for _, c := range due {
		if running, most := m.slots(c); *running < most {
			m.begin(ctx, runs, c, now)
		}
	}
	return next
}

// slots are how many checks like c run, and how many may.
func (m *Manager) slots(c *check) (running *int, most int) {
	if c.Kind == definition.CheckScript {
		return &m.scripts, maxScripts
	}
	return &m.dials, maxDials
}

// begin starts one run. The next one is due an interval after this one's start,
// give or take a twentieth, so that checks of many instances spread.
func (m *Manager) begin(ctx context.Context, runs *sync.WaitGroup, c *check, now time.Time) {
	spread := c.Interval / 20
	c.due = now.Add(c.Interval - spread + rand.N(2*spread))
	run, stop := context.WithTimeout(ctx, c.Timeout)
	c.stop = stop
	running, _ := m.slots(c)
	*running++
	runs.Go(func() {
		defer stop()
		status, output := m.try(run, c)
		m.ended(ctx, c, status, cut(output))
	})
}

func (m *Manager) ended(ctx context.Context, c *check, status, output string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	running, _ := m.slots(c)
	*running--
	c.stop = nil
	now := time.Now()
	short := status == definition.StatusCritical && shortage.Now() != nil // it says nothing of the instance
	if !short && !c.gone && !m.held && ctx.Err() == nil && c.count(now, status, output) {
		m.announce(c, now)
	}
	m.nudge()
}

// expire makes a ttl check critical of which nobody has told.
func (m *Manager) expire(c *check, now time.Time) {
	c.due = time.Time{}
	output := cmp.Or(c.output, "nothing")
	if c.set(now, definition.StatusCritical) {
		c.output = cut("no report for " + c.TTL.String() + "; the last one said: " + output)
		m.announce(c, now)
	}
}

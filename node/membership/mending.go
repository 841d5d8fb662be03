// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"tacit/node/config"
	"tacit/node/health"
	"tacit/policy/ledger"
	"tacit/policy/shortage"
)

// MendingConfig is what Mending works with.
type MendingConfig struct {
	Member    *Member
	Settings  *config.Settled
	Store     Copies
	View      *ledger.View
	Exchanged <-chan struct{} // closed once another member has told all that it knows
	CaughtUp  func()          // nothing is missing any more
	Health    Repairs
	Log       *slog.Logger
}

// Copies is a Store with a second generation.
type Copies interface {
	Store
	Copy() error     // where something has changed
	CaughtUp() error // the next start needs nothing of others
}

// Repairs learns what is wrong, and what was mended.
type Repairs interface {
	Health
	Repaired(object, found string)
}

// Mending says what a start found lost or damaged, waits for what others know of it,
// and keeps the copies for the next time.
type Mending struct{ conf MendingConfig }

// NewMending says what was lost or damaged, in the log and in status.
func NewMending(c MendingConfig) *Mending {
	for _, line := range c.Member.Said {
		c.Log.Warn("state: " + line)
		c.Health.Repaired("state", line)
	}
	for file, err := range c.Member.Missing {
		c.Log.Error("a key is missing", "file", file, "err", err)
		c.Health.Set(health.KeyFile, file, err)
	}
	if c.Member.Behind {
		c.Health.Set(health.StateBehind, "", errBehind)
	}
	return &Mending{c}
}

var errBehind = errors.New("records were lost: every connection is refused until another member has told what it knows; is one up, and reachable?")

// Behind is true while records may be missing.
func (m *Mending) Behind() bool {
	select {
	case <-m.conf.Exchanged:
		return false
	default:
		return m.conf.Member.Behind
	}
}

const (
	copyInterval  = 30 * time.Second
	shortInterval = 500 * time.Millisecond // while descriptors or memory are short
)

// Run catches up, and writes the copies where something has changed.
func (m *Mending) Run(ctx context.Context) error {
	exchanged := m.conf.Exchanged
	if !m.conf.Member.Behind {
		m.caughtUp() // there is nothing to wait for, or nobody
		exchanged = nil
	}
	for {
		next := time.After(m.copy())
		select {
		case <-ctx.Done():
			return nil
		case <-exchanged:
			exchanged = nil
			m.conf.Log.Info("the lost records were fetched from another member")
			m.conf.Health.Set(health.StateBehind, "", nil)
			m.caughtUp()
			m.conf.CaughtUp()
		case <-next:
		}
	}
}

func (m *Mending) caughtUp() {
	if err := m.conf.Store.CaughtUp(); err != nil {
		m.conf.Log.Warn("that no records are missing any more can't be kept: the next start asks again", "err", err)
	}
}

// copy returns when the next copy is due.
func (m *Mending) copy() time.Duration {
	c := m.conf
	err := errors.Join(c.Store.Copy(), c.Member.Remember(c.Settings, c.Store, c.View))
	if news := c.Health.Set(health.StateCopy, "", err); news && err != nil {
		c.Log.Warn("the second copy of this node's state can't be written, trying again", "err", err)
	}
	if shortage.Is(err) { // status says so until it succeeds
		return shortInterval
	}
	return copyInterval
}

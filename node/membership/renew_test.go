// SPDX-License-Identifier: Apache-2.0

package membership_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
	"tacit/node/membership"
	"tacit/policy/ledger/statement"
)

// clock is a wall clock that can be set; timers don't notice.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Round(0).Add(c.ahead)
}

func (c *clock) set(ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead = ahead
}

// TestRenewalFollowsTheWallClock: a clock that jumps, as when a suspended host
// resumes, is noticed within 5 s, without a timer that counted the time.
func TestRenewalFollowsTheWallClock(t *testing.T) {
	for _, c := range []struct {
		name string
		jump time.Duration
		new  bool
	}{
		{"past the end", 3 * time.Hour, true},
		{"past half life", 40 * time.Minute, true},
		{"a minute on", time.Minute, false},
		{"a minute back", -time.Minute, false}, // certificates are dated back
		{"before the beginning", -24 * time.Hour, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := bootstrap(t, "n1")
			n.grant(t, "n1", "db")
			wall, issuer := &clock{}, &counted{Issuer: n.issuer}
			m := membership.NewCertificates(membership.CertificatesConfig{Member: n.Member, Settings: n.settings, Roll: n.records.View(),
				Issuer: issuer, Health: n.board, Log: n.settings.Log, Now: wall.now})
			run(t, m)
			m.Want([]identity.Name{"db"})
			pass(time.Minute)
			before := issuer.issued.Load()
			wall.set(c.jump)
			pass(5 * time.Second)
			if got := issuer.issued.Load() - before; (got >= 2) != c.new || !c.new && got > 0 {
				t.Errorf("%s: %d certificates were issued within 5 s", c.name, got)
			}
		})
	}
}

// authorities are where they say, in this order.
type authorities struct {
	membership.Roll
	names []identity.Name
}

func (a authorities) Authorities() []identity.Name { return a.names }

func (a authorities) Node(name identity.Name) (statement.Node, bool) {
	return statement.Node{Node: name, Address: "192.0.2.1", LanePort: uint16(name[1])}, true
}

// TestDeadAuthoritiesCostTwoSeconds at most, however many there are; those that
// refuse cost nothing.
func TestDeadAuthoritiesCostTwoSeconds(t *testing.T) {
	silent := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	refuses := func(context.Context) error { return enrol.ErrRefused }
	for _, c := range []struct {
		name  string
		dead  int
		does  func(context.Context) error
		alive bool
		most  time.Duration
	}{
		{"none is dead", 0, silent, true, 0},
		{"one is dead", 1, silent, true, 250 * time.Millisecond},
		{"three are dead", 3, silent, true, 750 * time.Millisecond},
		{"thirty are dead", 30, silent, true, 2 * time.Second},
		{"three refuse", 3, refuses, true, 0},
		{"all refuse", 3, refuses, false, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := bootstrap(t, "n1")
			issuing, a := *n.Member, authorities{Roll: n.records.View()}
			n.Member.Authority = nil // it asks others
			for i := range c.dead {
				a.names = append(a.names, identity.Name("a"+string(rune('A'+i))))
			}
			if c.alive {
				a.names = append(a.names, "a~")
			}
			issuer := membership.NewIssuer(membership.IssuerConfig{Member: &issuing, Self: "n1", Records: n.records, Tokens: n.store, Log: n.settings.Log})
			var mu sync.Mutex
			running, began := 0, time.Now()
			m := membership.NewCertificates(membership.CertificatesConfig{Member: n.Member, Settings: n.settings, Roll: a, Health: n.board, Log: n.settings.Log,
				Renew: func(ctx context.Context, at netip.AddrPort, _ *tls.Config, r enrol.Renewal) (*enrol.Issued, error) {
					mu.Lock()
					running++
					mu.Unlock()
					defer func() { mu.Lock(); running--; mu.Unlock() }()
					if at.Port() == '~' {
						return issuer.Issue(ctx, "n1", n.Key.Public(), r)
					}
					return nil, c.does(ctx)
				}})
			n.grant(t, "n1", "db")
			run(t, m)
			m.Want([]identity.Name{"db"})
			synctest.Wait()
			for m.Check() != nil && time.Since(began) < time.Minute && c.alive {
				pass(time.Millisecond)
			}
			if took := time.Since(began); m.Check() != nil == c.alive || took > c.most {
				t.Errorf("%s: %v after %s", c.name, m.Check(), took)
			}
			if !c.alive {
				synctest.Wait()
				if err := problem(n, "db"); !errors.Is(err, enrol.ErrRefused) || strings.Count(err.Error(), "refused") != 3 {
					t.Errorf("%s: %v", c.name, err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if running != 0 {
				t.Errorf("%s: %d tries go on", c.name, running)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/config"
	"tacit/node/definition"
	"tacit/node/health"
	"tacit/node/inventory"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/policy/ledger/statement"
)

// host is everything that the loop asks and tells, in memory.
type host struct {
	mesh
	view       *inventory.View
	viewed     *inventory.View // at the last look
	intentions []policy.Intention
	digest     byte
	ungranted  bool
	behind     bool
	up         map[identity.Name]bool

	mu                                   sync.Mutex // guards view where the loop runs
	applied, swept, streams, kept, found int
	state                                kernel.State
	failing                              error
	other                                *policy.Table // what the maps hold instead
	signing                              error
	signed                               []string
	announced                            []string
	wanted                               []identity.Name
	answering                            []uint16
	answerFails                          error
	sweepWanted                          chan struct{}
}

func (h *host) Look() (*inventory.View, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed := h.view != h.viewed
	h.viewed = h.view
	return h.view, changed
}
func (h *host) Keep()                                        { h.kept++ }
func (h *host) Digest() [32]byte                             { return [32]byte{h.digest} }
func (h *host) Granted(_, _ identity.Name) bool              { return !h.ungranted }
func (h *host) Intentions() []policy.Intention               { return h.intentions }
func (h *host) Published(identity.Name) []statement.Instance { return h.mesh }
func (h *host) Of(catalog.Instance) []netip.Addr             { return nil }
func (h *host) Found()                                       { h.found++ }
func (h *host) PolicyDigest() [32]byte                       { return [32]byte{h.digest} }
func (h *host) Revision() kernel.Revision {
	if h.failing != nil || h.state.Table == nil {
		return kernel.Revision{Err: h.failing}
	}
	return kernel.Revision{Number: uint64(h.applied), Digest: cmp.Or(h.other, h.state.Table).Digest()}
}
func (h *host) SweepWanted() <-chan struct{}       { return h.sweepWanted }
func (h *host) Sweep(context.Context) (int, error) { h.swept++; return 0, h.failing }
func (h *host) Apply(s kernel.State) (bool, error) {
	h.applied++
	h.state = s
	return h.failing == nil, h.failing
}
func (h *host) GrantOwn(identity.Name, ...string) error {
	if h.ungranted {
		return errors.New("not granted")
	}
	return nil
}
func (h *host) SignInstance(body statement.Instance, withdraw bool) error {
	if h.signing != nil {
		return h.signing
	}
	h.digest++
	if withdraw {
		h.signed = append(h.signed, "-"+body.ID)
		h.mesh = nil
		return nil
	}
	h.signed = append(h.signed, "+"+body.ID)
	h.mesh = mesh{body}
	return nil
}

func newLoop(h *host) (*Loop, *health.Board) { return newLoopOf(h, h) }

// newLoopOf takes the records from elsewhere.
func newLoopOf(h *host, records Records) (*Loop, *health.Board) {
	board, log := health.NewBoard(), slog.New(slog.DiscardHandler)
	h.sweepWanted = make(chan struct{}, 1)
	if h.view == nil {
		h.view = &inventory.View{}
	}
	return New(Config{
		Settings: &config.Settled{Name: "host1", Action: policy.Deny}, Inventory: h, Records: records, Enforcer: h, Peers: h,
		Publisher: &Publisher{Self: "host1", Records: records, Signer: h, Health: board, Log: log},
		Alive:     func() map[identity.Name]bool { return h.up }, Addresses: func() []netip.Addr { return nil },
		Names: func(map[identity.Name][]string) (domains, hosts []string, crowded bool) { return nil, nil, false }, Enrol: func(*kernel.State) {}, Answer: func(p []uint16) error { h.answering = p; return h.answerFails }, Want: func(n []identity.Name) { h.wanted = n },
		Streams: func() int { h.streams++; return 0 }, Save: func() {}, Behind: func() bool { return h.behind },
		Announce: func(digest, _ string) { h.announced = append(h.announced, digest) },
		Remember: func([]kernel.Remote) error { return nil }, Health: board, Log: log,
	}), board
}

// TestSettle: what is done for which change, and that nothing is done for none.
func TestSettle(t *testing.T) {
	h := &host{}
	l, board := newLoop(h)
	l.Settle()
	for _, step := range []struct {
		name          string
		change        func()
		applies, cuts bool
	}{
		{"nothing", func() {}, false, false},
		{"a nudge", l.Nudge, true, true},
		{"a policy", func() {
			h.digest++
			h.intentions = []policy.Intention{{Source: "web", Destination: "db", Action: policy.Allow}}
			l.Nudge()
		}, true, true},
		{"connections to be judged again", l.Judge, true, true},
		{"a definition", func() {
			h.view = &inventory.View{Services: []inventory.Service{local("db", 5432, inventory.Listener{})}}
		}, true, true},
		{"nothing again", func() {}, false, false},
		{"a member that falls silent", func() { h.up = map[identity.Name]bool{"host2": false} }, true, true},
		{"maps that can't be written", func() { h.failing = errors.New("full"); l.Nudge() }, true, false},
		{"the next try", func() {}, true, false},
		{"room again", func() { h.failing = nil }, true, true},
		{"a program that sees its callers' own addresses", func() {
			s := local("db", 5432, inventory.Listener{})
			s.ClientAddress = definition.ClientOwn
			h.view, h.answerFails = &inventory.View{Services: []inventory.Service{s}}, errors.New("no routes")
		}, true, true},
		{"the next try to set its rule", func() { h.answerFails = nil }, true, true},
		{"nothing at the end", func() {}, false, false},
	} {
		applied, swept := h.applied, h.swept
		step.change()
		l.Settle()
		if got := h.applied > applied; got != step.applies {
			t.Errorf("%s: maps were written is %v", step.name, got)
		}
		if got := h.swept > swept; got != step.cuts {
			t.Errorf("%s: connections were judged is %v", step.name, got)
		}
		if problem := board.Get(health.Maps, ""); (problem != nil) != (h.failing != nil) {
			t.Errorf("%s: status says %v", step.name, problem)
		}
	}
	if h.streams != h.swept {
		t.Errorf("the proxy's streams were judged %d times, the kernel's %d times", h.streams, h.swept)
	}
	if want := l.Digest(); want == "" || l.InForce() != want || h.announced[len(h.announced)-1] != want {
		t.Errorf("in force %s, announced %v, want %s", l.InForce(), h.announced, want)
	}
	if len(h.answering) != 1 || h.answering[0] != 5432 {
		t.Errorf("answers of ports %v are led back", h.answering)
	}
	if len(h.wanted) != 1 || h.wanted[0] != "db" {
		t.Errorf("certificates are wanted for %v", h.wanted)
	}
}

// TestSameRules: a record that is no intention leaves the table as it is.
func TestSameRules(t *testing.T) {
	h := &host{intentions: []policy.Intention{{Source: "web", Destination: "db", Action: policy.Allow}}, digest: 1}
	l, _ := newLoop(h)
	l.Settle()
	table := l.Policy()
	h.digest++
	l.Nudge()
	l.Settle()
	if l.Policy() != table {
		t.Error("the table was made anew")
	}
	h.intentions = nil
	h.digest++
	l.Nudge()
	l.Settle()
	if l.Policy() == table {
		t.Error("the table is the old one")
	}
}

// TestBehind: while rules may be missing, nothing is allowed, from the first moment and
// whatever the default; afterwards what the rules say.
func TestBehind(t *testing.T) {
	h := &host{behind: true, digest: 1, intentions: []policy.Intention{{Source: "web", Destination: "db", Action: policy.Allow}}}
	l, _ := newLoop(h)
	l.conf.Settings.Action = policy.Allow
	allowed := func(what string, want bool) {
		t.Helper()
		for _, source := range []identity.Name{"web", "other"} {
			if l.Policy().Decide(source, "db").Allowed != want {
				t.Errorf("%s: %s to db is %t", what, source, !want)
			}
		}
	}
	allowed("at the start", false)
	l.Settle()
	allowed("behind", false)
	h.digest++
	l.Nudge()
	l.Settle()
	allowed("after a record", false)
	h.behind = false
	l.Nudge()
	l.Settle()
	allowed("caught up", true)
}

// TestRun: a nudge is followed at once and once, a settled one not again; the
// kernel can ask for a sweep; and a slow look finds what nobody announced.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{}
		l, _ := newLoop(h)
		l.Settle()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		synctest.Wait()
		expect := func(what string, applied, swept int) {
			t.Helper()
			synctest.Wait()
			l.applying.Lock()
			defer l.applying.Unlock()
			if h.applied != applied || h.swept != swept {
				t.Errorf("%s: written %d times, judged %d times; want %d and %d", what, h.applied, h.swept, applied, swept)
			}
		}
		expect("at the start", 1, 1)
		l.Nudge()
		l.Nudge()
		expect("after two nudges", 2, 2)
		h.sweepWanted <- struct{}{}
		expect("after the kernel asked", 2, 3)
		l.Look()
		expect("after a look that finds nothing", 2, 3)
		h.view = &inventory.View{}
		l.Look()
		expect("after a look that finds something", 3, 4)
		<-time.After(fullInterval - time.Second)
		expect("after nine seconds of nothing", 3, 4)
		<-time.After(2 * time.Second)
		expect("after the slow look", 4, 5)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestEmpty: before the first Settle there is a policy that denies.
func TestEmpty(t *testing.T) {
	l, _ := newLoop(&host{})
	if l.Policy().Decide("web", "db").Allowed || len(l.Catalog().Services()) != 0 || l.InForce() != "" || l.Guest(3) != "" {
		t.Error("a loop that has done nothing allows or knows something")
	}
}

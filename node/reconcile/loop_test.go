// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/config"
	"tacit/node/health"
	"tacit/node/inventory"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/policy/ledger"
)

// host is everything that the loop asks and tells, in memory.
type host struct {
	mesh
	view       *inventory.View
	viewed     *inventory.View // at the last look
	intentions []policy.Intention
	digest     byte
	ungranted  bool
	up         map[identity.Name]bool

	applied, swept, streams, kept, found int
	state                                kernel.State
	failing                              error
	signing                              error
	signed                               []string
	announced                            []string
	wanted                               []identity.Name
	sweepWanted                          chan struct{}
}

func (h *host) Look() (*inventory.View, bool) {
	changed := h.view != h.viewed
	h.viewed = h.view
	return h.view, changed
}
func (h *host) Keep()                                         { h.kept++ }
func (h *host) Digest() [32]byte                              { return [32]byte{h.digest} }
func (h *host) Granted(_, _ identity.Name) bool               { return !h.ungranted }
func (h *host) Intentions() []policy.Intention                { return h.intentions }
func (h *host) Published(identity.Name) []ledger.InstanceBody { return h.mesh }
func (h *host) Of(catalog.Instance) []netip.Addr              { return nil }
func (h *host) Found()                                        { h.found++ }
func (h *host) Revision() uint64                              { return uint64(h.applied) }
func (h *host) SweepWanted() <-chan struct{}                  { return h.sweepWanted }
func (h *host) Sweep(context.Context) (int, error)            { h.swept++; return 0, h.failing }
func (h *host) Apply(s kernel.State) (bool, error) {
	h.applied++
	h.state = s
	return h.failing == nil, h.failing
}
func (h *host) GrantOwn(identity.Name) error {
	if h.ungranted {
		return errors.New("not granted")
	}
	return nil
}
func (h *host) SignInstance(body ledger.InstanceBody, withdraw bool) error {
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

func newLoop(h *host) (*Loop, *health.Board) {
	board, log := health.NewBoard(), slog.New(slog.DiscardHandler)
	h.sweepWanted = make(chan struct{}, 1)
	if h.view == nil {
		h.view = &inventory.View{}
	}
	return New(Config{
		Settings: &config.Settled{Name: "host1", Action: policy.Deny}, Inventory: h, Records: h, Enforcer: h, Peers: h,
		Publisher: &Publisher{Self: "host1", Records: h, Signer: h, Health: board, Log: log},
		Alive:     func() map[identity.Name]bool { return h.up }, Addresses: func() []netip.Addr { return nil },
		Search: func() []string { return nil }, Enrol: func(*kernel.State) {}, Want: func(n []identity.Name) { h.wanted = n },
		Streams: func() int { h.streams++; return 0 }, Save: func() {},
		Announce: func(digest string, _ uint64) { h.announced = append(h.announced, digest) },
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
	if want := l.Policy().Digest(); l.InForce() != want || h.announced[len(h.announced)-1] != want {
		t.Errorf("in force %s, announced %v, want %s", l.InForce(), h.announced, want)
	}
	if len(h.wanted) != 1 || h.wanted[0] != "db" {
		t.Errorf("certificates are wanted for %v", h.wanted)
	}
}

// TestPublish: what is defined is signed once, changed instances again, and what
// is gone is withdrawn.
func TestPublish(t *testing.T) {
	h := &host{}
	l, board := newLoop(h)
	defined := func(services ...inventory.Service) { h.view = &inventory.View{Services: services} }
	for _, step := range []struct {
		name   string
		change func()
		signed string
	}{
		{"defined", func() { defined(local("db", 5432, inventory.Listener{})) }, "+db"},
		{"looked at again", l.Nudge, ""},
		{"another port", func() { defined(local("db", 5433, inventory.Listener{})) }, "+db"},
		{"no room on the disk", func() { h.signing = errors.New("no space left"); defined() }, ""},
		{"room again", func() { h.signing = nil }, "-db"},
		{"not granted", func() { h.ungranted = true; defined(local("web", 80, inventory.Listener{})) }, ""},
		{"granted", func() { h.ungranted = false; l.Nudge() }, "+web"},
	} {
		h.signed = nil
		step.change()
		l.Settle()
		got := ""
		if len(h.signed) > 0 {
			got = h.signed[0]
		}
		if got != step.signed || len(h.signed) > 1 {
			t.Errorf("%s: signed %v, want %q", step.name, h.signed, step.signed)
		}
		if problem := board.Get(health.Grant, "web"); (problem != nil) != h.ungranted {
			t.Errorf("%s: status says %v", step.name, problem)
		}
	}
}

// TestState: the record of an instance says whether it can serve, and what is known
// here counts before it is signed.
func TestState(t *testing.T) {
	h := &host{}
	l, _ := newLoop(h)
	listens := inventory.Listener{State: inventory.StateVerified, Addr: netip.MustParseAddrPort("127.0.0.1:5432")}
	check := ""
	l.conf.Publisher.Critical = func(id string) string { return check }
	for _, step := range []struct {
		name     string
		listener inventory.Listener
		check    string
		unsigned bool // the disk is full
		down     string
		local    bool
	}{
		{"nobody has looked", inventory.Listener{}, "", false, "listener", false},
		{"nobody listens", inventory.Listener{State: inventory.StateNone}, "", false, "listener", false},
		{"the workload listens", listens, "", false, "", true},
		{"a check fails", listens, "check disk", false, "check disk", false},
		{"a check fails, nobody listens", inventory.Listener{State: inventory.StateNone}, "check disk", false, "listener", false},
		{"whoever listens", inventory.Listener{State: inventory.StateUnverified, Addr: listens.Addr}, "", true, "listener", true},
		{"the disk has room again", inventory.Listener{State: inventory.StateUnverified, Addr: listens.Addr}, "", false, "", true},
		{"another program listens, the disk is full", inventory.Listener{State: inventory.StateUnowned}, "", true, "", false},
	} {
		h.signing = nil
		if step.unsigned {
			h.signing = errors.New("no space left")
		}
		check = step.check
		h.view = &inventory.View{Services: []inventory.Service{local("db", 5432, step.listener)}}
		l.conf.Publisher.signed = nil // as if a long time had passed
		l.Settle()
		l.Settle() // for what the first one signed
		if h.mesh[0].Down != step.down {
			t.Errorf("%s: the record says %q, want %q", step.name, h.mesh[0].Down, step.down)
		}
		if got := h.state.Endpoints[0].Local.IsValid(); got != step.local {
			t.Errorf("%s: it is called here is %v", step.name, got)
		}
		if in := l.Catalog().Instances("db")[0]; in.Healthy != step.local {
			t.Errorf("%s: healthy is %v", step.name, in.Healthy)
		}
	}
}

// TestFlapping: an instance whose state changes all the time is signed four times a
// second, and the last state is signed for certain; other changes don't wait.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{}
		l, _ := newLoop(h)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		states := []inventory.Listener{{State: inventory.StateNone}, {State: inventory.StateVerified, Addr: netip.MustParseAddrPort("127.0.0.1:5432")}}
		set := func(state, port int) {
			h.view = &inventory.View{Services: []inventory.Service{local("db", uint16(port), states[state])}}
			l.Look()
			synctest.Wait()
		}
		set(0, 5432)
		set(1, 5432)
		if len(h.signed) != 2 {
			t.Errorf("a start was signed as %v, want both states at once", h.signed)
		}
		for n := range 1000 { // ten seconds
			<-time.After(10 * time.Millisecond)
			set(n%2, 5432)
		}
		if n := len(h.signed); n < 40 || n > 44 {
			t.Errorf("signed %d times in ten seconds, want 4 a second", n)
		}
		set(0, 5432)
		<-time.After(time.Second + time.Millisecond)
		synctest.Wait()
		if h.mesh[0].Down != "listener" {
			t.Error("the last state was not signed")
		}
		for n := range 5 {
			set(n%2, 5432)
		}
		set(0, 5433)
		if h.mesh[0].Port != 5433 {
			t.Error("another port had to wait")
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
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

// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tacit/node/definition"
	"tacit/node/health"
	"tacit/node/inventory"
	"tacit/policy/ledger/statement"
)

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

// TestIngressBody: other nodes learn where an ingress is, and why it is closed.
func TestIngressBody(t *testing.T) {
	p := &Publisher{Self: "host1", Critical: func(id string) string { return "no " + id }}
	for _, c := range []struct {
		in   definition.Ingress
		want statement.Ingress
	}{
		{definition.Ingress{Port: 80, Service: "db"}, statement.Ingress{Listen: "*:80", Service: "db"}},
		{definition.Ingress{Address: "::1", Port: 80, Service: "db", ServicePort: 90}, statement.Ingress{Listen: "[::1]:80", Service: "db", Port: 90}},
	} {
		s := inventory.Service{Definition: definition.Definition{Name: "ingress/a", ID: "ingress/a", Ingress: &c.in}}
		p.Judge(&inventory.View{Services: []inventory.Service{s}})
		if got := p.body(s); got.Port != 0 || got.Down != "no ingress/a" || got.Ingress == nil || *got.Ingress != c.want {
			t.Errorf("%+v, %+v; want %+v", got, got.Ingress, c.want)
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
			h.mu.Lock()
			h.view = &inventory.View{Services: []inventory.Service{local("db", uint16(port), states[state])}}
			h.mu.Unlock()
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

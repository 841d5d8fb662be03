// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/node/config"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/redirect"
)

func TestStrictPorts(t *testing.T) {
	for name, c := range map[string]struct {
		guards []kernel.Guard
		want   []uint16
	}{
		"none":       {},
		"sorted":     {[]kernel.Guard{{Port: 5432}, {Port: 80}}, []uint16{80, 5432}},
		"permissive": {[]kernel.Guard{{Port: 5432, Permissive: true}, {Port: 80}}, []uint16{80}},
	} {
		if got := strictPorts(c.guards); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestTPROXYApply: what counts as a change, and which changes set the rules again.
func TestTPROXYApply(t *testing.T) {
	broken := errors.New("iptables failed")
	restated, fails := 0, false
	b := &tproxyBackend{restate: func() error {
		restated++
		if fails {
			return broken
		}
		return nil
	}}
	one, two := policy.NewTable(policy.Deny, nil), policy.NewTable(policy.Deny, nil)
	web := kernel.Workloads{Cgroups: map[uint64]identity.Name{7: "web"}}
	for _, step := range []struct {
		name             string
		state            kernel.State
		changed, restate bool
		fails            bool
	}{
		{name: "a table", state: kernel.State{Table: one}, changed: true},
		{name: "the same", state: kernel.State{Table: one}},
		{name: "another table", state: kernel.State{Table: two}, changed: true},
		{name: "a workload", state: kernel.State{Table: two, Workloads: web}, changed: true},
		{name: "an equal one", state: kernel.State{Table: two, Workloads: kernel.Workloads{Cgroups: map[uint64]identity.Name{7: "web"}}}},
		{name: "a port", state: kernel.State{Table: two, Workloads: web, Guards: []kernel.Guard{{Port: 80}}}, changed: true, restate: true},
		{name: "the same port", state: kernel.State{Table: two, Workloads: web, Guards: []kernel.Guard{{Port: 80}}}},
		{name: "a permissive one", state: kernel.State{Table: two, Workloads: web, Guards: []kernel.Guard{{Port: 80}, {Port: 81, Permissive: true}}}},
		{name: "no port, in vain", state: kernel.State{Table: two, Workloads: web}, changed: true, restate: true, fails: true},
	} {
		revision, before := b.Revision().Number, restated
		fails = step.fails
		changed, err := b.Apply(step.state)
		if changed != step.changed || restated-before > 0 != step.restate || (err != nil) != step.fails || b.Revision().Number-revision > 0 != step.changed {
			t.Errorf("%s: changed %v, rules set again %v, revision +%d, %v", step.name, changed, restated > before, b.Revision().Number-revision, err)
		}
	}
}

func TestUnheld(t *testing.T) {
	for way, n := range map[string]int{config.Auto: 0, config.Sockets: 0, config.TPROXY: 3} {
		if got := Unheld(way); len(got) != n {
			t.Errorf("%s: %q, want %d", way, got, n)
		}
	}
}

// withoutHooks makes this process a daemon that captures by TPROXY alone; port
// 5432 is a service's.
func withoutHooks(t *testing.T) (*fixture, *tproxyBackend) {
	t.Helper()
	f := newFixture(t)
	f.settings.Redirect = config.TPROXY
	daemon := f.place.current()
	hooks, enforcer, err := Load(LoadConfig{Settings: f.settings, Tree: f.tree, Guards: []kernel.Guard{{Port: 5432}}, Daemon: daemon, Log: f.settings.Log})
	testhost.Must(t, err)
	c := f.config(daemon)
	c.Hooks, c.Enforcer = hooks, enforcer
	f.Datapath = New(c)
	return f, hooks.(*tproxyBackend)
}

// TestTPROXYPlans: the port of a service is closed from the first moment, the
// rules for the daemon's listeners exist while it runs, and follow the guards.
func TestTPROXYPlans(t *testing.T) {
	if !alone(t) {
		return
	}
	f, b := withoutHooks(t)
	inForce := func(when string, guarded, captures bool) {
		t.Helper()
		rules := shell(t, "iptables-save; ip6tables-save; ip rule")
		if got := strings.Contains(rules, "--dport 5432"); got != guarded {
			t.Errorf("%s: port 5432 is guarded %v, want %v:\n%s", when, got, guarded, rules)
		}
		if got := strings.Contains(rules, "TPROXY"); got != captures {
			t.Errorf("%s: connections are captured %v, want %v:\n%s", when, got, captures, rules)
		}
	}
	inForce("loaded", true, false)
	if _, err := b.Apply(kernel.State{Guards: []kernel.Guard{{Port: 5432}, {Port: 80}}}); err != nil {
		t.Errorf("before Open: %v", err)
	}
	testhost.Must(t, f.Open(t.Context()))
	inForce("open", true, true)
	if _, err := b.Apply(kernel.State{}); err != nil {
		t.Fatal(err)
	}
	inForce("the service is gone", false, true)
	if _, err := b.Apply(kernel.State{Guards: []kernel.Guard{{Port: 5432}}}); err != nil {
		t.Fatal(err)
	}
	if missing, err := f.Drift(); err != nil || len(missing) > 0 {
		t.Errorf("drift %q, %v", missing, err)
	}
	testhost.Must(t, f.Close())
	testhost.Must(t, b.Close())
	inForce("closed", true, false)
	testhost.Must(t, redirect.Cleanup())
	guard, _, err := Load(LoadConfig{Settings: f.settings, Tree: f.tree, Guards: []kernel.Guard{{Port: 5432}}, Log: f.settings.Log})
	testhost.Must(t, err)
	inForce("guarded before the daemon", true, false)
	testhost.Must(t, guard.Close())
	inForce("guarded still", true, false)
}

// TestTPROXYOrigin asks the kernel for callers in three cgroups: a workload's,
// one below it, and another.
func TestTPROXYOrigin(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	testhost.Must(t, err)
	defer ln.Close()
	web := filepath.Join(f.tree.Root(), "web")
	testhost.Must(t, os.MkdirAll(web, 0o755))
	id, err := workload.ID(web)
	testhost.Must(t, err)
	b := &tproxyBackend{settings: f.settings, tree: f.tree, workloads: map[uint64]identity.Name{id: "web"}}
	for cgroup, want := range map[string]string{"web": "web", "web/child": "web", "other": "the caller is no workload"} {
		start(t, f.tree, cgroup, testhost.Python(), "-c",
			fmt.Sprintf("import socket, time; s = socket.create_connection(('127.0.0.1', %d)); time.sleep(600)", portOf(ln)))
		conn, err := ln.Accept()
		testhost.Must(t, err)
		differs(t, cgroup, origin(t, b, conn), want)
		_ = conn.Close()
	}
	client, server := pair(t)
	_ = client.Close()
	testhost.Eventually(t, waitFor, "the caller has gone", func() error {
		if got := origin(t, b, server); !strings.HasPrefix(got, "the caller has gone") {
			return errors.New(got)
		}
		return nil
	})
}

// origin is the service that made a connection, or why it isn't known.
func origin(t *testing.T, b *tproxyBackend, conn net.Conn) string {
	t.Helper()
	fd, err := fdOf(conn.(*net.TCPConn))
	testhost.Must(t, err)
	o, err := b.Origin(fd)
	var refused *policy.Refusal
	if errors.As(err, &refused) && refused.Reason == policy.ReasonIdentity {
		return refused.Detail
	}
	testhost.Must(t, err)
	return string(o.Source)
}

// TestTPROXYNumberOf is arithmetic: both ranges, and nothing else.
func TestTPROXYNumberOf(t *testing.T) {
	b := &tproxyBackend{settings: newSettings(t)}
	for addr, want := range map[string]uint32{"240.64.0.7": 7, "fd7a:ac17::7": 7, "192.0.2.7": 0, "fd00::7": 0} {
		n, ok := b.NumberOf(netip.MustParseAddr(addr))
		if n != want || ok != (want > 0) {
			t.Errorf("%s is number %d, %v; want %d", addr, n, ok, want)
		}
	}
}

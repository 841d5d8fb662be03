// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tacit/bpf"
	"tacit/identity"
	"tacit/node/api"
	"tacit/node/config"
	"tacit/node/health"
	"tacit/node/limits"
	"tacit/node/probe"
	"tacit/node/reconcile/share"
	"tacit/node/records"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/redirect"
	"tacit/tproxy/lane"
)

// checkLine is a check as one line: what is wrong and what to do, or what was
// found where nothing is.
func checkLine(c api.Check) string {
	out := c.Name + ": ok"
	if !c.OK {
		out = c.Name + ": BAD"
	}
	if c.Reason != "" {
		out += ", " + c.Reason
	}
	if c.Hint != "" {
		out += " [" + c.Hint + "]"
	}
	return out
}

// status are the checks by name. The rp_filter settings of this machine may add
// to the reason of a good check of sysctls.
func status(t *testing.T, f *fixture) (*api.Status, map[string]string) {
	t.Helper()
	s, err := f.Host.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for _, c := range s.Checks {
		if _, twice := lines[c.Name]; twice {
			t.Errorf("two checks are called %s", c.Name)
		}
		lines[c.Name] = checkLine(c)
	}
	return s, lines
}

// TestStatusOfHealthyNode has every check, each once, and each good.
func TestStatusOfHealthyNode(t *testing.T) {
	f := newFixture(t)
	f.kernel.hooks = make([]bpf.Hook, 12)
	f.kernel.results = []probe.Result{{Name: "probe connect4"}}
	f.kernel.counters = map[policy.Reason]uint64{policy.ReasonDefault: 3}
	f.journal.totals.Dropped = 9
	since := time.Now().Add(-time.Minute)
	f.proxy.lanes = []lane.Info{{Peer: identity.NodeID("mesh.test", "host2"), Dialled: true, Since: since, Streams: 4, Proven: []lane.Proven{{ID: identity.ServiceID("mesh.test", "db")}}}}
	s, _ := status(t, f)
	var names []string
	for _, c := range s.Checks {
		if !c.OK {
			t.Error(checkLine(c))
		}
		names = append(names, c.Name)
	}
	differs(t, "checks", strings.Join(names, ", "),
		"hooks, maps, revision, routes and rules, ports, daemon's cgroup, sysctls, probe connect4, members, certificates, limits, counters, descriptors, memory")
	if !s.Healthy || s.Node != "host1" || s.TrustDomain != "mesh.test" || s.Revision != 7 || s.Digest != f.loop.InForce() || s.Version != "test" || s.Unheld != nil {
		t.Errorf("%+v", s)
	}
	if p := s.LanePort; p.Unproven != 3 || len(p.Refused) != 1 || p.Refused[policy.ReasonShare] != 9 || len(p.Cut) != 1 || p.Cut[policy.ReasonProof] != 4 {
		t.Errorf("lane port %+v", p)
	}
	if s.RebindingAnswers != 5 {
		t.Errorf("%d refused answers of resolvers, want 5", s.RebindingAnswers)
	}
	if len(s.Counters) != 1 || s.Counters[policy.ReasonDefault] != 3 || s.Flows.Dropped != 9 {
		t.Errorf("counters %v, flows %+v", s.Counters, s.Flows)
	}
	if len(s.Certificates) != 1 || s.Certificates[0].ID != "spiffe://mesh.test/node/host1" {
		t.Errorf("certificates %+v", s.Certificates)
	}
	l := s.Lanes[0]
	if l.Peer != "spiffe://mesh.test/node/host2" || l.Streams != 4 || l.AgeSeconds < 60 || len(l.Proven) != 1 || l.Proven[0] != "spiffe://mesh.test/svc/db" {
		t.Errorf("lane %+v", l)
	}
}

// TestStatusChecks: one thing is wrong, or worth knowing, at a time.
func TestStatusChecks(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		make    func(*testing.T, *fixture)
		healthy bool
		check   string // the line of this check
		also    string // of another one
	}{
		"a hook is off": {
			make: func(_ *testing.T, f *fixture) {
				f.kernel.hooks = []bpf.Hook{{Name: "connect4", Problem: "detached"}, {Name: "connect6"}, {Name: "sendmsg4", Problem: "unpinned"}}
			},
			check: "hooks: BAD, connect4: detached; sendmsg4: unpinned [tacitd attaches them again within a second; if not, restart it]"},
		"other programs at a hook": {healthy: true,
			make: func(_ *testing.T, f *fixture) {
				f.kernel.hooks = []bpf.Hook{{Name: "connect4", Others: []string{"cil_sock4", "other"}}, {Name: "connect6"}}
			},
			check: "others on connect4: ok, cil_sock4, other", also: "hooks: ok, 2 programs attached"},
		"other programs at a hook that is off": {
			make: func(_ *testing.T, f *fixture) {
				f.kernel.hooks = []bpf.Hook{{Name: "connect4", Problem: "detached", Others: []string{"other"}}}
			},
			check: "others on connect4: ok, other",
			also:  "hooks: BAD, connect4: detached [tacitd attaches them again within a second; if not, restart it]"},
		"gossip is refused": {healthy: true, make: func(_ *testing.T, f *fixture) {
			f.board.Count("gossip packets and streams", func() uint64 { return 7 })
			f.board.Count("nothing", func() uint64 { return 0 })
		}, check: "gossip packets and streams: ok, 7 refused since the start"},
		"a member floods this node": {make: func(_ *testing.T, f *fixture) { f.board.Set(health.Gossip, "host3", broken) }, check: "gossip with host3: BAD, broken"},
		"hooks can't be examined":   {make: func(_ *testing.T, f *fixture) { f.kernel.hooksErr = broken }, check: "hooks: BAD, broken [restart tacitd]"},
		"maps":                      {make: func(_ *testing.T, f *fixture) { f.board.Set(health.Maps, "", broken) }, check: "maps: BAD, broken"},
		"maps are right":            {healthy: true, make: func(*testing.T, *fixture) {}, check: "maps: ok, as they were written"},
		"routes are missing": {make: func(_ *testing.T, f *fixture) { f.kernel.drift = []string{"missing: a", "left over: b"} },
			check: "routes and rules: BAD, missing: a; left over: b [tacitd sets them again within a second; if not, its log says why]"},
		"routes can't be set again": {
			make: func(_ *testing.T, f *fixture) {
				f.kernel.drift = []string{"missing: a"}
				f.board.Set(health.Routes, "", broken)
			},
			check: "routes and rules: BAD, broken [tacitd sets them again within a second; if not, its log says why]"},
		"routes can't be examined": {make: func(_ *testing.T, f *fixture) { f.kernel.driftErr = broken },
			check: "routes and rules: BAD, broken [tacitd sets them again within a second; if not, its log says why]"},
		"routes of others": {healthy: true,
			make: func(_ *testing.T, f *fixture) {
				f.kernel.shadows = []redirect.Shadow{{Route: "240.64.0.0/16 dev tun0"}, {Route: "240.65.0.0/16 dev tun0"}}
			},
			check: "routes and rules: ok, routes of others in the virtual range: 240.64.0.0/16 dev tun0, 240.65.0.0/16 dev tun0"},
		"ports":           {make: func(_ *testing.T, f *fixture) { f.board.Set(health.Ports, "", broken) }, check: "ports: BAD, broken"},
		"daemon's cgroup": {make: func(_ *testing.T, f *fixture) { f.board.Set(health.Place, "", broken) }, check: "daemon's cgroup: BAD, broken"},
		"sysctls": {make: func(_ *testing.T, f *fixture) { f.board.Set(health.Host, "", api.Failed("sysctl -w it", "rp_filter")) },
			check: "sysctls: BAD, rp_filter [sysctl -w it]"},
		"the self-probe failed": {
			make: func(_ *testing.T, f *fixture) {
				f.kernel.results = []probe.Result{{Name: "probe connect4", Err: "connected"}, {Name: "probe names"}}
			},
			check: "probe connect4: BAD, connected [see the other checks; another program on the same hook (check hooks) may rewrite or refuse]",
			also:  "probe names: ok"},
		"the self-probe can't run": {make: func(_ *testing.T, f *fixture) { f.kernel.probeErr = broken }, check: "probe: BAD, broken [what programs do couldn't be tried]"},
		"a silent member": {healthy: true,
			make: func(t *testing.T, f *fixture) {
				f.admit(t, "host2", "10.0.0.2")
				f.admit(t, "host3", "")
				f.admit(t, "host4", "")
			},
			check: "members: ok, 2 of 4 nodes answer; silent: host3, host4"},
		"a certificate is missing": {
			make:  func(_ *testing.T, f *fixture) { f.certs.err = errors.New("no certificate for service db yet") },
			check: "certificates: BAD, no certificate for service db yet [is the clock right, and can an authority be reached?]"},
		"descriptors in use": {healthy: true, check: "descriptors: ok, 100 of 256 in use", also: "memory: ok, no limit", make: func(*testing.T, *fixture) {}},
		"no descriptors": {
			make: func(_ *testing.T, f *fixture) {
				short := fmt.Errorf("open: %w", syscall.EMFILE)
				f.board.Set(health.Descriptors, "", errors.New("200 of 256 in use"))
				f.board.Replace(health.Hook, map[string]error{"connect4": short, "connect6": short})
				f.kernel.driftErr, f.kernel.probeErr = short, short
			},
			check: "descriptors: BAD, 200 of 256 in use; couldn't be examined or done: hook, probe, routes and rules [" + hintDescriptors + "]",
			also:  "memory: ok, no limit"},
		"no memory": {
			make: func(_ *testing.T, f *fixture) {
				f.proxy.memory = limits.Use{Used: 120 << 20, Limit: 128 << 20}
				f.board.Set(health.Memory, "", errors.New("120 of 128 MiB in use"))
				f.kernel.roomErr = syscall.ENOMEM
			},
			check: "memory: BAD, 120 of 128 MiB in use; couldn't be examined or done: limits [" + hintMemory + "]",
			also:  "descriptors: ok, 100 of 256 in use"},
		"memory in use": {healthy: true, check: "memory: ok, 20 of 128 MiB in use",
			make: func(_ *testing.T, f *fixture) { f.proxy.memory = limits.Use{Used: 20 << 20, Limit: 128 << 20} }},
		"maps are full": {
			make: func(_ *testing.T, f *fixture) {
				f.kernel.rooms = []kernel.Room{{What: "intentions", Used: 9, Of: 9}, {What: "workloads", Used: 1, Of: 9}}
			},
			check: "limits: BAD, 9 of 9 intentions: new ones are refused [run tacitd cleanup, and start it with larger --max-intentions, --max-workloads or --max-connecting]"},
		"maps can't be counted":     {make: func(_ *testing.T, f *fixture) { f.kernel.roomErr = broken }, check: "limits: BAD, broken [restart tacitd]"},
		"counters can't be read":    {make: func(_ *testing.T, f *fixture) { f.kernel.countersErr = broken }, check: "counters: BAD, broken"},
		"a start to confirm":        {healthy: true, make: func(_ *testing.T, f *fixture) { f.kernel.left = 41500 * time.Millisecond }, check: "confirm: ok, unconfirmed: undone in 41 s unless tacit confirm"},
		"another problem, one only": {make: func(_ *testing.T, f *fixture) { f.board.Set(health.Grant, "db", api.Refused("grant it", "no grant")) }, check: "grant db: BAD, no grant [grant it]"},
		"two of one family": {
			make: func(_ *testing.T, f *fixture) {
				f.board.Replace(health.Held, map[string]error{"a": broken, "b": errors.New("waits")})
			},
			check: "held a: BAD, broken", also: "held b: BAD, waits"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c.make(t, f)
			s, checks := status(t, f)
			for _, want := range []string{c.check, c.also} {
				if key, _, _ := strings.Cut(want, ":"); want != "" {
					differs(t, key, checks[key], want)
				}
			}
			if s.Healthy != c.healthy {
				t.Errorf("healthy is %v, want %v; checks %q", s.Healthy, c.healthy, checks)
			}
		})
	}
}

// TestStatusRepairs are shown for a minute, and nothing is wrong any more.
func TestStatusRepairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.board.Repaired("hook connect4", "unpinned")
		<-time.After(10 * time.Second)
		f.board.Repaired("hook connect4", "detached")
		f.board.Repaired("map ports", "changed by others")
		<-time.After(50 * time.Second)
		s, checks := status(t, f)
		differs(t, "twice", checks["repaired hook connect4"], "repaired hook connect4: ok, 50 s ago: detached (2 times since the start)")
		differs(t, "once", checks["repaired map ports"], "repaired map ports: ok, 50 s ago: changed by others")
		if !s.Healthy || s.UptimeSeconds != 60 {
			t.Errorf("healthy %v after %v s", s.Healthy, s.UptimeSeconds)
		}
		<-time.After(10 * time.Second)
		if _, checks := status(t, f); checks["repaired map ports"] != "" {
			t.Error("shown after a minute")
		}
	})
}

// TestStatusWithoutHooks names the guarantees that TPROXY alone can't give.
func TestStatusWithoutHooks(t *testing.T) {
	f := newFixture(t)
	f.Settings.Redirect = config.TPROXY
	if s, _ := status(t, f); len(s.Unheld) != 3 {
		t.Errorf("unheld %q", s.Unheld)
	}
}

// TestStatusOfCallerWhoLeft: nothing is examined for nobody.
func TestStatusOfCallerWhoLeft(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := f.Host.Status(ctx); s != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestStatusNamesWhoTakesTooMuch: on the other nodes nothing is wrong.
func TestStatusNamesWhoTakesTooMuch(t *testing.T) {
	f := newFixture(t)
	f.loop.excess = []share.Excess{{Node: "host3", What: "ports", Announces: 900, Used: 32}, {Node: "host3", What: "instances of db", Announces: 70, Used: 64}}
	s, lines := status(t, f)
	differs(t, "on another node", lines["share of host3"], "share of host3: ok, host3 announces 900 ports; 32 are used; host3 announces 70 instances of db; 64 are used")
	if !s.Healthy {
		t.Error("another node's excess makes this one unhealthy")
	}
	f.loop.excess = []share.Excess{{Node: "host1", What: "ports", Announces: 900, Used: 32}}
	s, lines = status(t, f)
	differs(t, "on its own", lines["share of host1"], "share of host1: BAD, host1 announces 900 ports; 32 are used [every node leaves the rest out: announce fewer]")
	if s.Healthy {
		t.Error("its own excess is no problem")
	}
}

// TestStatusOfTheRevision: what is in force, what came forged, and why nothing is.
func TestStatusOfTheRevision(t *testing.T) {
	f := newFixture(t)
	_, lines := status(t, f)
	differs(t, "in force", lines["revision"], "revision: ok, in force: "+f.loop.InForce())
	f.records.dropped = records.Dropped{Forged: 12, Excess: 3}
	f.board.Set(health.Revision, "", errors.New("withdrawn: map intentions was changed by others"))
	_, lines = status(t, f)
	differs(t, "withdrawn", lines["revision"], "revision: BAD, withdrawn: map intentions was changed by others; dropped since the start: 12 forged, 0 replayed, 3 unread revisions of other nodes")
}

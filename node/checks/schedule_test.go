// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tacit/internal/testhost"
	"tacit/node/definition"
)

// running runs m in the bubble of the test until the test ends.
func running(t *testing.T, m *Manager) {
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { _ = m.Run(ctx); close(ended) }()
	t.Cleanup(func() { stop(); <-ended })
}

// TestIntervals: a check runs soon after it was defined, and then once an
// interval; never twice at the same time; never after it was removed.
func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changes := 0
		m := newManager("", &changes)
		var began []time.Time
		var now, most int
		var mu sync.Mutex
		m.try = func(ctx context.Context, c *check) (string, string) {
			mu.Lock()
			began, now = append(began, time.Now()), now+1
			most = max(most, now)
			mu.Unlock()
			<-ctx.Done() // as slow as it may be
			mu.Lock()
			now--
			mu.Unlock()
			return definition.StatusPassing, "fine"
		}
		running(t, m)
		pass(time.Hour)
		defined := time.Now()
		m.Set([]definition.Definition{define(t, "web", `check { tcp = "" interval = "10s" timeout = "25s" }`)})
		if r := only(t, m); r.Status != "critical" || !r.Ran.IsZero() {
			t.Errorf("before the first run: %+v", r)
		}
		pass(10 * time.Minute)
		mu.Lock()
		first, runs := began[0].Sub(defined), len(began)
		mu.Unlock()
		if first > firstRun || runs < 23 || runs > 25 || most != 1 {
			t.Errorf("first after %s, %d runs, %d at once", first, runs, most)
		}
		if r := only(t, m); r.Status != "passing" || r.Output != "fine" || time.Since(r.Since) < 9*time.Minute || time.Since(r.Ran) > time.Minute || changes != 1 {
			t.Errorf("%+v after %d changes", r, changes)
		}
		m.Set(nil)
		synctest.Wait()
		mu.Lock()
		runs = len(began)
		mu.Unlock()
		if pass(time.Hour); len(began) != runs || now != 0 {
			t.Errorf("%d runs and %d more after the end; %d go on", runs, len(began)-runs, now)
		}
	})
}

// TestSpread: 1,000 checks that are defined at once don't run at once; scripts
// have few slots, and those that hang don't delay other checks.
func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changes := 0
		m := newManager("", &changes)
		var now, most, runs, scripts atomic.Int64
		m.try = func(ctx context.Context, c *check) (string, string) {
			if c.Kind == definition.CheckScript {
				scripts.Add(1)
				<-ctx.Done()
				scripts.Add(-1)
				return definition.StatusCritical, ""
			}
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			runs.Add(1)
			pass(50 * time.Millisecond)
			now.Add(-1)
			return definition.StatusPassing, ""
		}
		var defs []definition.Definition
		for i := range 1000 {
			defs = append(defs, define(t, fmt.Sprintf("web-%d", i), `check { tcp = "" interval = "10s" }`))
			if i < 100 {
				defs = append(defs, define(t, fmt.Sprintf("db-%d", i), `check { args = ["x"] interval = "1s" timeout = "1h" }`))
			}
		}
		m.Set(defs)
		running(t, m)
		pass(60 * time.Second)
		if n := runs.Load(); n < 5500 || n > 7500 || most.Load() > maxDials || most.Load() < 16 || scripts.Load() != maxScripts {
			t.Errorf("%d runs in a minute, %d at once; %d scripts", n, most.Load(), scripts.Load())
		}
	})
}

// TestSetKeeps: what is defined as before goes on with its result; what is
// defined otherwise begins anew, and a run of the old one counts no more.
func TestSetKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changes := 0
		m := newManager("", &changes)
		m.try = func(ctx context.Context, c *check) (string, string) {
			if c.Kind == definition.CheckGRPC {
				<-ctx.Done()
				return definition.StatusPassing, "too late"
			}
			return definition.StatusPassing, string(c.Kind)
		}
		running(t, m)
		before := define(t, "web", `check { tcp = "" interval = "1h" }`)
		m.Set([]definition.Definition{before})
		pass(time.Minute)
		first := only(t, m)
		m.Set([]definition.Definition{before})
		pass(time.Minute)
		if again := only(t, m); again != first || first.Status != "passing" {
			t.Errorf("%+v, before %+v", again, first)
		}
		m.Set([]definition.Definition{define(t, "web", `check { grpc = "" interval = "1h" timeout = "1h" }`)})
		pass(time.Minute)
		m.Set([]definition.Definition{define(t, "web", `check { http = "/" interval = "1h" }`)})
		pass(time.Minute)
		if r := only(t, m); r.Output != "http" || r.Status != "passing" {
			t.Errorf("%+v", r)
		}
	})
}

// TestThresholds: results, one letter each, beside the status after each.
func TestThresholds(t *testing.T) {
	status := map[rune]string{'p': "passing", 'w': "warning", 'c': "critical"}
	for _, tt := range []struct{ settings, results, want string }{
		{"", "pcpwc", "pcpwc"},
		{"success_before_passing = 3", "pppcppp", "ccpcccp"},
		{"failures_before_critical = 3", "pccpccc", "pppppp" + "c"},
		{"failures_before_critical = 3 failures_before_warning = 2", "pcccp", "ppwcp"},
		{"failures_before_warning = 1 failures_before_critical = 2", "pcpcc", "pwpwc"},
		{`status = "passing" success_before_passing = 2 failures_before_critical = 2`, "cpcc", "pppc"},
	} {
		m := newManager("", new(int))
		m.Set([]definition.Definition{define(t, "web", `check { tcp = "" interval = "1s" `+tt.settings+` }`)})
		var got strings.Builder
		for _, r := range tt.results {
			m.checks[0].count(time.Now(), status[r], "")
			got.WriteString(only(t, m).Status[:1])
		}
		if got.String() != tt.want {
			t.Errorf("%s: results %s, statuses %s, want %s", tt.settings, tt.results, got.String(), tt.want)
		}
	}
}

// TestCheckWithoutDescriptors: a check that the daemon has no descriptor for says
// nothing of the instance.
func TestCheckWithoutDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager("", new(int))
		var said atomic.Value
		said.Store("passing")
		m.try = func(context.Context, *check) (string, string) { return said.Load().(string), "" }
		running(t, m)
		m.Set([]definition.Definition{define(t, "web", `check { tcp = "" interval = "10s" }`)})
		pass(time.Minute)
		testhost.WithDescriptors(t, 0, func() { said.Store("critical"); pass(time.Minute) })
		if r := only(t, m); r.Status != "passing" {
			t.Errorf("without descriptors: %+v", r)
		}
		pass(time.Minute)
		if r := only(t, m); r.Status != "critical" {
			t.Errorf("with descriptors: %+v", r)
		}
	})
}

// TestTTL: a status that nobody repeats in time is critical.
func TestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changes := 0
		m := newManager("", &changes)
		running(t, m)
		m.Set([]definition.Definition{define(t, "web", `check { id = "batch" ttl = "30s" }`), define(t, "db", `check { id = "disk" tcp = "" interval = "24h" }`)})
		say := func(id, status, note, want string) {
			t.Helper()
			got := ""
			if err := m.Update(id, status, note); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("%s %s: got %q, want %q", id, status, got, want)
			}
		}
		for _, step := range []struct {
			id, status, note string
			after            time.Duration
			want             string
		}{
			{"batch", "passing", "42 rows\x00", 29 * time.Second, "passing: 42 rows\x00"},
			{"web/batch", "warning", "slow", 29 * time.Second, "warning: slow"},
			{"batch", "warning", "slow", 31 * time.Second, "critical: no report for 30s; the last one said: slow"},
			{"batch", "passing", strings.Repeat("é", maxOutput), 0, "passing: " + strings.Repeat("é", maxOutput/2)},
			{"batch", "critical", "", 0, "critical: "},
		} {
			say(step.id, step.status, step.note, "")
			pass(step.after)
			synctest.Wait()
			if r := only(t, m); r.Status+": "+r.Output != step.want {
				t.Errorf("got %s: %s, want %.80s", r.Status, r.Output, step.want)
			}
		}
		if m.Critical("web") != "check batch" {
			t.Error(m.Critical("web"))
		}
		say("disk", "passing", "", "disk is a tcp check (web.hcl:2), which the daemon runs itself; only ttl checks are told their status")
		say("disc", "passing", "", "no check of this node has the id disc; ttl checks: web/batch")
		m.Set([]definition.Definition{define(t, "web", `check { id = "batch" ttl = "30s" status = "passing" }`), define(t, "db", `check { id = "batch" ttl = "30s" }`)})
		say("batch", "passing", "", "several instances have a check batch: give one of web/batch, db/batch")
		if m.Critical("web") != "" {
			t.Error("a new check doesn't begin with the status it was given")
		}
		pass(31 * time.Second)
		if m.Critical("web") != "check batch" {
			t.Error("nobody has told its status")
		}
	})
}

// TestAlias follows an instance, a service, and another alias; a circle ends.
func TestAlias(t *testing.T) {
	changes := 0
	m := newManager("", &changes)
	alias := func(id, target string) definition.Definition {
		return define(t, id, `check { alias_service = "`+target+`" }`)
	}
	m.Set([]definition.Definition{define(t, "db-1", `check { ttl = "1m" }`), define(t, "db-2", `check { ttl = "1m" }`), define(t, "bare", ""),
		alias("one", "db-1"), alias("all", "db"), alias("far", "one"), alias("none", "gone"), alias("plain", "bare"),
		alias("round", "about"), alias("about", "round"), alias("self", "self")})
	statuses := func() string {
		var out []string
		for _, c := range m.checks[2:] {
			out = append(out, c.instance+"="+c.status[:1])
		}
		return strings.Join(out, " ")
	}
	for _, step := range []struct{ id, status, want string }{
		{"", "", "one=c all=c far=c none=c plain=p round=c about=c self=p"},
		{"db-1/service:db-1", "passing", "one=p all=c far=p none=c plain=p round=c about=c self=p"},
		{"db-2/service:db-2", "warning", "one=p all=w far=p none=c plain=p round=c about=c self=p"},
		{"db-1/service:db-1", "critical", "one=c all=c far=c none=c plain=p round=c about=c self=p"},
	} {
		before := changes
		if step.id != "" {
			if err := m.Update(step.id, step.status, ""); err != nil {
				t.Fatal(err)
			}
		}
		if got := statuses(); got != step.want || step.id != "" && changes == before {
			t.Errorf("after %s %s:\ngot  %s\nwant %s", step.id, step.status, got, step.want)
		}
	}
	if r := m.Results("all"); len(r) != 1 || r[0].Output != "db-1: check ttl is critical" {
		t.Errorf("%+v", r)
	}
	if !slices.ContainsFunc(m.Results("none"), func(r Result) bool { return r.Output == "gone: no instance of this node has this id or name" }) {
		t.Errorf("%+v", m.Results("none"))
	}
}

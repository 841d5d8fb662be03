// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// mixedCall is one kind of connection of TestTenThousandMixedConnections: who makes
// it, what it meets, and how the caller's node counts it.
type mixedCall struct {
	as                string // the caller's service; "user" has none, "outside" is another host
	kind, addr        string
	count, bytes      int
	outcome           string
	direction, reason string
}

// mixedResult is what the client met.
type mixedResult struct {
	Label          string
	Sent, Received uint64
	Outcomes       map[string]int
}

type flowSum struct{ Count, Sent, Received uint64 }

// flowReport is what tacit flows and tacit status say.
type flowReport struct {
	Flows []struct {
		Direction, Reason string
		Live              bool
		Count             uint64
		Sent, Received    uint64
	}
	Totals []struct {
		Direction, Reason string
		flowSum
	}
	Dropped uint64
	Lost    map[string]uint64
}

func (r flowReport) sums() map[string]flowSum {
	out := map[string]flowSum{}
	for _, t := range r.Totals {
		out[t.Direction+" "+t.Reason] = t.flowSum
	}
	return out
}

// TestTenThousandMixedConnections: what the callers met, the flows of both nodes and
// the counters of status agree in every connection and every byte.
func TestTenThousandMixedConnections(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db", "gone"}})
	host1, host2, outside := m.Nodes[0], m.Nodes[1], m.Host(t, "outside")
	mixed := filepath.Join(m.Dir(), "mixed")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", mixed, "testdata/mixed/main.go").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	host1.Tacit(t, "service", "register", "secret", "--port", "7400", "--cgroup", "/secret")
	host1.Tacit(t, "service", "register", "closed", "--port", "7401", "--cgroup", "/closed")
	host1.Tacit(t, "service", "register", "api", "--port", "7100")
	host1.Tacit(t, "service", "register", "old", "--port", "7300", "--permissive")
	host2.Tacit(t, "service", "register", "db", "--port", "7000")
	host2.Tacit(t, "service", "register", "gone", "--port", "7500", "--cgroup", "/gone")
	host2.StartAs(t, "db", mixed, "serve", "0.0.0.0:7000")
	host1.StartAs(t, "api", mixed, "serve", "0.0.0.0:7100")
	host1.StartAs(t, "old", mixed, "serve", "0.0.0.0:7300")
	host2.AwaitListener(t, 7000)
	host1.AwaitListener(t, 7100)
	host1.AwaitListener(t, 7300)
	for _, service := range []string{"db", "api", "old"} {
		testhost.AwaitText(t, 10*time.Second, "a healthy instance", `"healthy": true`, func() string {
			out, _ := host1.TryTacit(t, "service", "show", service, "--json")
			return out
		})
	}
	for _, service := range []string{"db", "api", "gone"} {
		host1.Tacit(t, "intention", "allow", "web", service, "--wait")
	}
	host1.Tacit(t, "intention", "deny", "web", "closed", "--wait")
	at := func(service string, port int) string {
		v4, _ := host1.Virtual(t, service)
		return fmt.Sprintf("%s:%d", v4, port)
	}
	db, api := at("db", 7000), at("api", 7100)
	calls := []mixedCall{
		{"web", "echo", db, 2000, 100, "closed", "out", "closed"},
		{"web", "echo", db, 6, 4 << 20, "closed", "out", "closed"},
		{"web", "none", db, 300, 0, "closed", "out", "closed"},
		{"web", "half", db, 400, 1000, "closed", "out", "closed"},
		{"web", "client resets", db, 200, 0, "closed", "out", "reset"},
		{"web", "server resets", db, 200, 0, "reset", "out", "reset"},
		{"web", "echo", api, 2400, 100, "closed", "direct", "closed"},
		{"web", "echo", api, 6, 4 << 20, "closed", "direct", "closed"},
		{"web", "none", api, 300, 0, "closed", "direct", "closed"},
		{"web", "half", api, 300, 1000, "closed", "direct", "closed"},
		{"web", "client resets", api, 150, 0, "closed", "direct", "reset"},
		{"web", "server resets", api, 150, 0, "reset", "direct", "reset"},
		{"web", "none", at("secret", 7400), 700, 0, "refused", "hook", "default"},
		{"web", "none", at("closed", 7401), 300, 0, "refused", "hook", "intention"},
		{"user", "none", db, 600, 0, "refused", "hook", "identity"},
		{"user", "none", "127.0.0.1:7100", 300, 0, "refused", "hook", "identity"},
		{"web", "none", at("db", 9999), 300, 0, "refused", "hook", "port"},
		{"web", "none", at("gone", 7500), 300, 0, "refused", "hook", "instance"},
		{"web", "bind", "127.0.0.1:7100", 100, 0, "forbidden", "hook", "listener"},
		{"web", "udp", db, 100, 0, "refused", "hook", "udp"},
		{"user", "udp", api, 100, 0, "refused", "hook", "udp"},
		{"web", "udp connected", api, 88, 0, "refused", "hook", "udp"},
		{"outside", "none", host1.Addr.String() + ":7100", 300, 0, "refused", "hook", "guard"},
		{"outside", "none", host1.Addr.String() + ":7300", 200, 0, "closed", "hook", "permissive"},
		{"user", "none", "127.0.0.1:7300", 100, 0, "closed", "hook", "permissive"},
	}
	held := []mixedCall{
		{"web", "hold", db, 50, 0, "reset", "out", "changed"},
		{"web", "hold", api, 50, 0, "reset", "direct", "changed"},
	}
	want := map[string]flowSum{}
	note := func(as string, calls []mixedCall, output string) {
		t.Helper()
		for i, r := range resultsOf(t, output) {
			c := calls[i]
			if c.as != as {
				continue
			}
			if !maps.Equal(r.Outcomes, map[string]int{c.outcome: c.count}) {
				t.Errorf("%s, %s to %s: %v, want %d %s", c.as, c.kind, c.addr, r.Outcomes, c.count, c.outcome)
			}
			sum := want[c.direction+" "+c.reason]
			want[c.direction+" "+c.reason] = flowSum{sum.Count + uint64(c.count), sum.Sent + r.Sent, sum.Received + r.Received}
		}
	}
	callers := map[string]*testhost.Process{
		"web":     host1.StartAs(t, "web", mixed, "call", planOf(t, "web", calls)),
		"user":    host1.StartAs(t, "", mixed, "call", planOf(t, "user", calls)),
		"outside": outside.StartAs(t, "", mixed, "call", planOf(t, "outside", calls)),
	}
	holder := host1.StartAs(t, "web", mixed, "call", planOf(t, "web", held))
	for as, p := range callers {
		if exit := p.Wait(t, time.Minute); exit != 0 {
			t.Fatalf("%s: exit %d: %s", as, exit, p.Output())
		}
		note(as, calls, p.Output())
	}
	testhost.AwaitText(t, 10*time.Second, "held connections", "all held connections are there", holder.Output)
	for _, service := range []string{"db", "api"} {
		host1.Tacit(t, "intention", "deny", "web", service, "--wait")
	}
	holder.Wait(t, 10*time.Second)
	note("web", held, holder.Output())

	total := uint64(0)
	for _, s := range want {
		total += s.Count
	}
	if total != 10000 {
		t.Errorf("%d connections were made, want 10000", total)
	}
	testhost.Eventually(t, 10*time.Second, "all flows of host1 to be as its callers say", func() error {
		return agrees(t, host1, want)
	})
	in := map[string]flowSum{}
	for key, sum := range want {
		if reason, out := strings.CutPrefix(key, "out "); out {
			in["in "+reason] = sum
		}
	}
	testhost.Eventually(t, 10*time.Second, "all flows of host2 to be as the callers say", func() error {
		return agrees(t, host2, in)
	})

	before := refusals(t, host1)
	host1.Kill(t)
	host1.Daemon(t)
	testhost.Eventually(t, 10*time.Second, "a probe by the new daemon", func() error {
		if out, exit := host1.TryTacit(t, "status"); exit != 0 {
			return fmt.Errorf("status: exit %d\n%s", exit, out)
		}
		return nil
	})
	after := refusals(t, host1)
	before["late"], after["late"] = 0, 0
	if !maps.Equal(before, after) {
		t.Errorf("a new daemon counts %v, the old one %v: the self-probe must not count", after, before)
	}
}

func planOf(t *testing.T, as string, calls []mixedCall) string {
	t.Helper()
	type call struct {
		Kind, Addr   string
		Count, Bytes int
	}
	var plan []call
	for _, c := range calls {
		n := c.count
		if c.as != as {
			n = 0
		}
		plan = append(plan, call{c.kind, c.addr, n, c.bytes})
	}
	text, err := json.Marshal(plan)
	testhost.Must(t, err)
	return string(text)
}

func resultsOf(t *testing.T, output string) (results []mixedResult) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(output), "\n")
	testhost.Must(t, json.Unmarshal([]byte(lines[len(lines)-1]), &results))
	return results
}

// agrees compares the flows of a node with its counters, its records and what is wanted.
func agrees(t *testing.T, h *testhost.Host, want map[string]flowSum) error {
	t.Helper()
	var flows flowReport
	testhost.Must(t, json.Unmarshal([]byte(h.Tacit(t, "flows", "--json")), &flows))
	var status struct {
		Counters map[string]uint64
		Flows    flowReport
	}
	testhost.Must(t, json.Unmarshal([]byte(h.Tacit(t, "status", "--json")), &status))
	got := flows.sums()
	if late, ok := got["hook late"]; ok { // packets, of no connection that a caller knows of
		want = maps.Clone(want)
		want["hook late"] = late
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("flows has %v\nwant %v", got, want)
	}
	if got := status.Flows.sums(); !maps.Equal(got, want) {
		return fmt.Errorf("status has %v\nwant %v", got, want)
	}
	listed := flows.Dropped
	for _, f := range flows.Flows {
		listed += f.Count
	}
	counters := map[string]uint64{}
	for key, sum := range want {
		listed -= sum.Count
		switch direction, reason, _ := strings.Cut(key, " "); direction {
		case "hook":
			counters[reason] += sum.Count
		case "out", "direct":
			if counters["allowed"] += sum.Count; direction == "direct" && reason == "changed" {
				counters[reason] += sum.Count
			}
		}
	}
	if listed != 0 {
		return fmt.Errorf("the records and the %d that are dropped are off by %d", flows.Dropped, int64(listed))
	}
	for reason, n := range flows.Lost {
		return fmt.Errorf("%d events of %s were lost", n, reason)
	}
	if !maps.Equal(status.Counters, counters) {
		return fmt.Errorf("status counts %v\nwant %v", status.Counters, counters)
	}
	return nil
}

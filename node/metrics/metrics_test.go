// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/node/api"
	"tacit/node/api/flow"
	"tacit/node/config"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/tproxy"
)

// node has the answers that a test gives it.
type node struct {
	status  api.Status
	nodes   []api.Node
	live    []tproxy.Flow
	rooms   []kernel.Room
	failing error
}

func (n *node) sources() Sources {
	return Sources{
		Status: func(context.Context) (*api.Status, error) { s := n.status; return &s, n.failing },
		Nodes:  func(context.Context) ([]api.Node, error) { return n.nodes, nil },
		Totals: func() (flow.Sums, error) { return n.status.Flows, n.failing },
		Live:   func() []tproxy.Flow { return n.live },
		Stalls: func() uint64 { return 3 },
		Room:   func([]identity.Name) ([]kernel.Room, error) { return n.rooms, nil },
	}
}

// busy is a node with something to say in every metric.
func busy() *node {
	noon := time.Unix(1767355200, 0)
	return &node{
		status: api.Status{Version: "1.2", Healthy: true, Revision: 12, Digest: "8f0e", RebindingAnswers: 3,
			Checks:   []api.Check{{Name: "hooks", OK: true}, {Name: "certificate \xff"}, {Name: "share of host3", OK: true}, {Name: "share of host3"}, {Name: api.CheckConfirm, OK: true}},
			Counters: map[api.Reason]uint64{"allowed": 40, "default": 5},
			Flows: flow.Sums{Dropped: 9, Lost: map[flow.Reason]uint64{"guard": 7}, Totals: []flow.Total{
				{Direction: "out", Reason: "closed", Count: 4, Sent: 100, Received: 1000},
				{Direction: "out", Reason: "changed", Count: 1, Sent: 10, Received: 20},
				{Direction: flow.Hook, Reason: "default", Count: 5}, {Direction: flow.Hook, Reason: "late", Count: 2}}},
			Certificates: []api.Certificate{{ID: "spiffe://t/svc/web", NotAfter: noon.Add(time.Hour), RenewAt: noon}, {ID: "spiffe://t/svc/web", NotAfter: noon, RenewAt: noon}},
			Lanes:        []api.Lane{{Peer: "spiffe://t/node/host2", Direction: "out"}, {Peer: "spiffe://t/node/host2", Direction: "out"}, {Peer: "spiffe://t/node/host2", Direction: "in"}},
			LanePort:     api.LanePort{Unproven: 6, Refused: map[api.Reason]uint64{"share": 8}, Cut: map[api.Reason]uint64{"protocol": 2}}},
		nodes: []api.Node{{Name: "host1", Alive: true, PolicyDigest: "8f0e"}, {Name: "host2", Alive: true, PolicyDigest: "51d2"}, {Name: "host3", PolicyDigest: "8f0e"}},
		live:  []tproxy.Flow{{Direction: tproxy.DirectionOut, Sent: 1, Received: 2}, {Direction: tproxy.DirectionIn, Sent: 5}},
		rooms: []kernel.Room{{What: "intentions", Used: 3, Of: 262144}},
	}
}

// TestFigures: every figure is where the CLI's answers have it.
func TestFigures(t *testing.T) {
	got := scrape(t, newCollector(busy().sources()))
	for _, want := range []string{
		`tacit_healthy 1`, `tacit_check_ok{check="hooks"} 1`, `tacit_check_ok{check="certificate ?"} 0`, `tacit_check_ok{check="share of host3"} 0`,
		`tacit_connections_total{direction="out",reason="closed",verdict="allowed"} 4`,
		`tacit_connections_total{direction="out",reason="changed",verdict="allowed"} 1`,
		`tacit_connections_total{direction="hook",reason="default",verdict="refused"} 5`,
		`tacit_connections_total{direction="hook",reason="late",verdict="none"} 2`,
		`tacit_sent_bytes_total{direction="out"} 111`, `tacit_received_bytes_total{direction="out"} 1022`, `tacit_sent_bytes_total{direction="in"} 5`,
		`tacit_live_connections{direction="out"} 1`, `tacit_live_connections{direction="local"} 0`,
		`tacit_kernel_verdicts_total{reason="allowed"} 40`, `tacit_lost_reports_total{reason="guard"} 7`, `tacit_dropped_flows_total 9`, `tacit_loop_stalls_total 3`,
		`tacit_lanes{direction="out",peer="host2"} 2`, `tacit_lanes_cut_total{reason="protocol"} 2`,
		`tacit_lane_port_unproven_connections 6`, `tacit_lane_port_refused_total{reason="share"} 8`, `tacit_rebinding_answers_total 3`,
		`tacit_policy_revision 12`, `tacit_policy_in_force 1`, `tacit_start_unconfirmed 1`,
		`tacit_members{state="alive"} 2`, `tacit_members{state="silent"} 1`, `tacit_members_in_force 2`,
		`tacit_certificate_end_time_seconds{id="spiffe://t/svc/web"} 1.7673552e+09`,
		`tacit_kernel_map_entries{map="intentions"} 3`, `tacit_kernel_map_max_entries{map="intentions"} 262144`,
	} {
		if !slices.Contains(got, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if t.Failed() {
		t.Log(strings.Join(got, "\n"))
	}
}

// TestEveryReasonIsThereFromTheStart: so that its first increase is seen.
func TestEveryReasonIsThereFromTheStart(t *testing.T) {
	got := scrape(t, newCollector((&node{}).sources()))
	for _, r := range policy.Reasons() {
		for _, metric := range []string{kernelVerdicts, lostReports, lanesCut, laneRefused} {
			if want := fmt.Sprintf("%s{reason=%q} 0", metric, r); !slices.Contains(got, want) {
				t.Errorf("missing: %s", want)
			}
		}
		for _, direction := range []string{"out", "in", "local", "direct", "hook"} {
			if want := fmt.Sprintf("%s{direction=%q,reason=%q,verdict=%q} 0", connections, direction, r, flow.VerdictOf(direction, r)); !slices.Contains(got, want) {
				t.Errorf("missing: %s", want)
			}
		}
	}
}

// TestLint: names, help texts and units are as Prometheus's own linter wants them.
func TestLint(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(newCollector(busy().sources()))
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if n, err := testutil.GatherAndCount(r); err != nil || n < len(families()) {
		t.Errorf("%d figures, %v", n, err)
	}
}

// TestBytesNeverFall: a connection that ends between the readings of sums and of live
// ones is in neither.
func TestBytesNeverFall(t *testing.T) {
	n := busy()
	c := newCollector(n.sources())
	before := scrape(t, c)
	n.live = nil
	n.status.Flows.Totals[0].Received++
	between := scrape(t, c)
	n.status.Flows.Totals[0].Received += 50
	after := scrape(t, c)
	for i, want := range []string{"1022", "1022", "1071"} {
		if line := `tacit_received_bytes_total{direction="out"} ` + want; !slices.Contains([][]string{before, between, after}[i], line) {
			t.Errorf("scrape %d lacks %s", i, line)
		}
	}
}

// TestNoFiguresIsAnError: a scrape fails where the daemon doesn't know.
func TestNoFiguresIsAnError(t *testing.T) {
	n := busy()
	n.failing = errors.New("the kernel doesn't answer")
	e, err := Open(t.Context(), &config.Settled{Config: config.Config{Metrics: config.MetricsSocket, Log: slog.New(slog.DiscardHandler)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	e.Attach(n.sources()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "the kernel doesn't answer") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestOffByDefault: without the setting nothing listens, and nothing is made.
func TestOffByDefault(t *testing.T) {
	e, err := Open(t.Context(), &config.Settled{Config: config.Config{Log: slog.New(slog.DiscardHandler)}}, nil)
	if err != nil || e.port != nil || e.Attach(busy().sources()) != nil || e.handler != nil || e.Run(t.Context()) != nil || e.Close() != nil {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestPlaces: whoever opens connections to the port and says nothing takes few of the
// daemon's descriptors.
func TestPlaces(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(free.Addr().String())
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	e, err := Open(t.Context(), &config.Settled{MetricsAt: at, Config: config.Config{Metrics: at.String(), Log: slog.New(slog.DiscardHandler)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.Attach(busy().sources())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	counted := &countingListener{Listener: e.port}
	e.port = counted
	go func() { ended <- e.Run(ctx) }()
	for range places {
		silent(t, at)
	}
	testhost.Eventually(t, 5*time.Second, "all places to be taken", func() error {
		if n := counted.accepted.Load(); n != places {
			return fmt.Errorf("%d of %d", n, places)
		}
		return nil
	})
	last := silent(t, at)
	_ = last.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := last.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || counted.accepted.Load() > places {
		t.Errorf("one more connection: %v; %d were accepted", err, counted.accepted.Load())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// countingListener counts what is accepted.
type countingListener struct {
	net.Listener
	accepted atomic.Int32
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return c, err
}

// silent is a connection that says nothing.
func silent(t *testing.T, at netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestEveryMetricIsDocumented: docs/metrics.md has each by name, with its labels, and no other.
func TestEveryMetricIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.Contains(cells[1], "`tacit_") {
			continue
		}
		for _, name := range strings.Split(strings.TrimSpace(cells[1]), ", ") {
			documented[strings.Trim(name, "`")] = strings.TrimSpace(cells[2])
		}
	}
	for _, f := range families() {
		want := ""
		if len(f.labels) > 0 {
			want = "`" + strings.Join(f.labels, "`, `") + "`"
		}
		if got, ok := documented[f.name]; !ok || got != want {
			t.Errorf("%s: documented with the labels %q, want %q", f.name, got, want)
		}
		delete(documented, f.name)
	}
	for name := range documented {
		t.Errorf("%s is documented and doesn't exist", name)
	}
}

// scrape is the collector's answer, by line.
func scrape(t *testing.T, c *collector) []string {
	t.Helper()
	e := &Exporter{log: slog.New(slog.NewTextHandler(io.Discard, nil)), onSocket: true}
	handler := e.handlerOf(c)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return strings.Split(w.Body.String(), "\n")
}

// TestScrapesCostLittle: scrapes that follow each other ask what status says once, and yet
// tell all connections.
func TestScrapesCostLittle(t *testing.T) {
	n, asked := busy(), 0
	from := n.sources()
	status := from.Status
	from.Status = func(ctx context.Context) (*api.Status, error) {
		asked++
		return status(ctx)
	}
	c := newCollector(from)
	scrape(t, c)
	n.status.Flows.Totals[0].Count = 41
	got := scrape(t, c)
	if want := `tacit_connections_total{direction="out",reason="closed",verdict="allowed"} 41`; asked != 1 || !slices.Contains(got, want) {
		t.Errorf("status was asked %d times, and %s is there: %v", asked, want, slices.Contains(got, want))
	}
}

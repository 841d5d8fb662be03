// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// port9464 serves metrics of host1 in the tests below.
const port9464 = "127.0.0.1:9464"

// TestMetricsAndFlows: who wants to watch a mesh asks tacit flows for connections, and has
// Prometheus scrape the sums. Both say the same, by the same reasons.
func TestMetricsAndFlows(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db"}, First: []string{"--metrics", port9464}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	webServer(t, host2, "db", "0.0.0.0", 8000, "db")
	host2.Tacit(t, "service", "register", "db", "--port", "8000")
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")

	// Three calls are carried, two are refused by default, one is made by nobody.
	becomesReachable(t, host1, "web", "http://db:8000/")
	answers(t, host1, "web", "http://db:8000/", "db")
	answers(t, host1, "web", "http://db:8000/", "db")
	for _, service := range []string{"other", "other", ""} {
		if out, exit := curl(t, host1, service, "http://db:8000/", "-4"); exit != 7 {
			t.Fatalf("a denied caller: exit %d, %s", exit, out)
		}
	}

	// tacit flows shows those that are asked for.
	for ask, want := range map[string]string{
		"--source other":                                             "default default",
		"--verdict refused --service db":                             "default default identity",
		"--reason identity --reason permissive":                      "identity",
		"--verdict allowed --node host2":                             "closed closed closed",
		"--destination db --source web --verdict allowed --since 1h": "closed closed closed",
		"--node host3":                                               "",
		"--live":                                                     "",
	} {
		testhost.Eventually(t, 5*time.Second, "tacit flows "+ask, func() error {
			if got := reasonsOf(t, host1.Tacit(t, append([]string{"flows", "--json"}, strings.Fields(ask)...)...)); got != want {
				return fmt.Errorf("%s, want %s", got, want)
			}
			return nil
		})
	}
	if out, exit := host1.TryTacit(t, "flows", "--follow", "--reason", "defualt"); exit != 2 || !strings.Contains(out, "did you mean default?") {
		t.Errorf("an unknown reason: exit %d, %s", exit, out)
	}

	// --follow ends with its reader, and shows what comes after it began.
	follower := host1.Start(t, "user", "sh", "-c", fmt.Sprintf("%s --socket %s flows --follow --source late --json | head -1", host1.Bin("tacit"), host1.Socket()))
	if out, exit := curl(t, host1, "late", "http://db:8000/", "-4"); exit != 7 {
		t.Fatalf("a denied caller: exit %d, %s", exit, out)
	}
	if exit := follower.Wait(t, 10*time.Second); exit != 0 || !strings.Contains(follower.Output(), `"source":"late","destination":"db"`) {
		t.Errorf("tacit flows --follow: exit %d, %s", exit, follower.Output())
	}

	// Prometheus gets the same sums.
	testhost.Eventually(t, 10*time.Second, "the metrics to be what tacit flows says", func() error { return metricsAgree(t, host1) })
	figures := metrics(t, host1, "http://"+port9464+"/metrics")
	for metric, want := range map[string]float64{
		`tacit_connections_total{direction="hook",reason="default",verdict="refused"}`: 3,
		`tacit_connections_total{direction="hook",reason="udp",verdict="refused"}`:     0,
		`tacit_healthy`: 1, `tacit_check_ok{check="hooks"}`: 1, `tacit_policy_in_force`: 1, `tacit_start_unconfirmed`: 0,
		`tacit_members{state="alive"}`: 2, `tacit_members_in_force`: 2, `tacit_lanes{direction="out",peer="host2"}`: 1,
		`tacit_live_connections{direction="out"}`: 0, `tacit_kernel_map_max_entries{map="intentions"}`: 1 << 18,
	} {
		if got, ok := figures[metric]; !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", metric, got, ok, want)
		}
	}
	for _, metric := range []string{"process_open_fds", "go_goroutines", `tacit_certificate_end_time_seconds{id="spiffe://tacit.local/node/host1"}`, `tacit_sent_bytes_total{direction="out"}`} {
		if figures[metric] <= 0 {
			t.Errorf("%s is %v", metric, figures[metric])
		}
	}

	// They are off unless asked for, and never served to other hosts.
	onSocket := []string{"-sS", "--unix-socket", host2.Socket(), "http://tacitd/metrics"}
	if out := host2.Sh(t, "ss -Hltn"); strings.Contains(out, "9464") {
		t.Errorf("host2 listens for scrapes:\n%s", out)
	}
	if out, _ := host2.Run(t, "user", "curl", onSocket...); !strings.Contains(out, "tacitd doesn't know GET") {
		t.Errorf("host2 serves metrics: %.200s", out)
	}
	for address, want := range map[string]string{"0.0.0.0:9464": "not a loopback address", "localhost": "give a loopback address and port"} {
		if out, exit := host1.Tacitd(t, "--metrics", address); exit != 1 || !strings.Contains(out, want) {
			t.Errorf("--metrics %s: exit %d, %s", address, exit, out)
		}
	}

	// The daemon's socket is another place for them.
	host2.Stop(t)
	host2.Daemon(t, "--metrics", "unix")
	out, exit := host2.Run(t, "user", "curl", onSocket...)
	if exit != 0 || !strings.Contains(out, "\ntacit_policy_revision ") {
		t.Errorf("on the socket: exit %d, %.200s", exit, out)
	}
}

// reasonsOf are those of the flows in a list, in order.
func reasonsOf(t *testing.T, list string) string {
	t.Helper()
	var flows flowReport
	testhost.Must(t, json.Unmarshal([]byte(list), &flows))
	var all []string
	for _, f := range flows.Flows {
		for range f.Count {
			all = append(all, f.Reason)
		}
	}
	return strings.Join(all, " ")
}

// metrics are a scrape's figures by metric and labels.
func metrics(t *testing.T, h *testhost.Host, url string) map[string]float64 {
	t.Helper()
	out, exit := h.Run(t, "user", "curl", "-sSf", url)
	if exit != 0 {
		t.Fatalf("curl %s: exit %d, %s", url, exit, out)
	}
	all := map[string]float64{}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
		testhost.Must(t, err)
		all[line[:i]] = value
	}
	return all
}

// metricsAgree compares a scrape with the totals of tacit flows, in every direction and
// reason.
func metricsAgree(t *testing.T, h *testhost.Host) error {
	t.Helper()
	var flows flowReport
	testhost.Must(t, json.Unmarshal([]byte(h.Tacit(t, "flows", "--json")), &flows))
	got := metrics(t, h, "http://"+port9464+"/metrics")
	want, sent, received := map[string]uint64{}, uint64(0), uint64(0)
	for key, sum := range flows.sums() {
		direction, reason, _ := strings.Cut(key, " ")
		want[fmt.Sprintf("tacit_connections_total{direction=%q,reason=%q,", direction, reason)] = sum.Count
		sent, received = sent+sum.Sent, received+sum.Received
	}
	for metric, value := range got {
		if i := strings.Index(metric, "verdict="); strings.HasPrefix(metric, "tacit_connections_total") && value != float64(want[metric[:i]]) {
			return fmt.Errorf("%s is %v, want %d", metric, value, want[metric[:i]])
		}
		switch {
		case strings.HasPrefix(metric, "tacit_sent_bytes_total"):
			sent -= uint64(value)
		case strings.HasPrefix(metric, "tacit_received_bytes_total"):
			received -= uint64(value)
		}
	}
	if sent != 0 || received != 0 || len(want) < 3 {
		return fmt.Errorf("bytes differ by %d and %d, %v", int64(sent), int64(received), want)
	}
	return nil
}

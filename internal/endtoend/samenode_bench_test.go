// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// BenchmarkSameNode compares a call within a node with the same call on a host without
// tacit, in turns: calls a second on one connection, and the time of connect(2).
// "IPv4" and "IPv6" are what the program listens on, and the virtual address called.
func BenchmarkSameNode(b *testing.B) {
	m := testhost.NewMesh(b, testhost.MeshOptions{})
	h, plain := m.Nodes[0], m.Host(b, "plain")
	h.MakeWorkload(b, "web")
	h.Tacit(b, "intention", "allow", "web", "*", "--wait")
	for i, family := range []string{"IPv4", "IPv6"} {
		service, port, at := []string{"four", "six"}[i], 7000+i, []string{"127.0.0.1", "[::1]"}[i]
		listen := fmt.Sprintf("%s:%d", at, port)
		h.StartAs(b, service, h.Bin("probe"), "pace-listen", listen)
		plain.Start(b, "user", plain.Bin("probe"), "pace-listen", listen)
		h.AwaitListener(b, port)
		plain.AwaitListener(b, port)
		h.Tacit(b, "service", "register", service, "--port", fmt.Sprint(port))
		testhost.AwaitText(b, 10*time.Second, service+" is healthy", `"healthy": true`, func() string {
			out, _ := h.TryTacit(b, "service", "show", service, "--json")
			return out
		})
		v4, v6 := h.Virtual(b, service)
		virtual := []string{fmt.Sprintf("%s:%d", v4, port), fmt.Sprintf("[%s]:%d", v6, port)}[i]
		b.Run(family, func(b *testing.B) { paces(b, plain, h, listen, virtual) })
	}
}

func paces(b *testing.B, plain, h *testhost.Host, listen, virtual string) {
	var rate, extra, calls, connects []float64
	for range b.N {
		direct, directConnect := paceOf(b, plain, "user", listen)
		meshed, meshedConnect := paceOf(b, h, testhost.WorkloadCgroup("web"), virtual)
		rate, extra = append(rate, meshed/direct), append(extra, (meshedConnect-directConnect)/1000)
		calls, connects = append(calls, meshed), append(connects, meshedConnect/1000)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(calls), "calls/s")
	b.ReportMetric(median(rate), "x-direct")
	b.ReportMetric(median(connects), "connect-µs")
	b.ReportMetric(median(extra), "µs-more-than-direct")
}

func paceOf(b *testing.B, h *testhost.Host, cgroup, addr string) (calls, connect float64) {
	b.Helper()
	out, exit := h.Run(b, cgroup, h.Bin("probe"), "pace", addr, "1")
	if _, err := fmt.Sscan(out, &calls, &connect); err != nil || exit != 0 {
		b.Fatalf("pace %s: %q, %v", addr, out, err)
	}
	return calls, connect
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// cable is what joins the hosts, worse than the usual link.
type cable struct {
	name string
	testhost.Cable
}

func cables() []cable {
	return []cable{
		{"2 % lost", testhost.Cable{Loss: 0.02}},
		{"20 ms", testhost.Cable{Delay: 10 * time.Millisecond}},
		{"20 ms, 0.5 % lost", testhost.Cable{Delay: 10 * time.Millisecond, Loss: 0.005}},
	}
}

// BenchmarkCables compares the systems over long and bad cables, on which a lost packet
// stops all that share a connection. bench/cables.sh starts it.
func BenchmarkCables(b *testing.B) {
	seconds := setting(b, "BENCH_SECONDS", 2)
	say("%-18s %-8s %12s %10s %10s %16s %10s", "cable", "system", "requests/s", "p50, µs", "p99, µs", "Mbit/s, 1 stream", "4 streams")
	for _, c := range cables() {
		for _, name := range []string{Direct, Tacit, HAProxy} {
			b.Run(fmt.Sprintf("%s/%s", c.name, name), func(b *testing.B) { c.measure(b, name, seconds) })
		}
	}
}

func (c cable) measure(b *testing.B, name string, seconds int) {
	s := startOver(b, name, c.Cable)
	s.serveBulk(b)
	got := s.requests(b, s.farPort(httpPort), 32, seconds)
	_, one := s.iperf(b, seconds, "-P1")
	_, four := s.iperf(b, seconds, "-P4")
	say("%-18s %-8s %12.0f %10.0f %10.0f %16.0f %10.0f", c.name, name, got.Requests/got.Micros*1e6, got.P50, got.P99, one/1e6, four/1e6)
}

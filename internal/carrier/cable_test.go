// SPDX-License-Identifier: Apache-2.0

package carrier

import (
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// cables are the bad ones between the two nodes.
func cables() []struct {
	name string
	testhost.Cable
} {
	return []struct {
		name string
		testhost.Cable
	}{
		{"5 % lost", testhost.Cable{Loss: 0.05}},
		{"20 ms, 5 % overtaken", testhost.Cable{Delay: 20 * time.Millisecond, Reorder: 0.05}},
		{"20 ms, 5 % lost, 5 % overtaken", testhost.Cable{Delay: 20 * time.Millisecond, Loss: 0.05, Reorder: 0.05}},
	}
}

// TestBadCables: bytes arrive over every cable, no stream hangs, and those that are
// quiet meanwhile live. One node takes packets of at most 1280 bytes, and nobody is
// told so by ICMP.
func TestBadCables(t *testing.T) {
	testhost.VerifyNone(t)
	f := newFixture(t, func(m *testhost.Mesh) {
		m.Nodes[1].Sh(t, "ip link set eth0 mtu 1280")
		for _, h := range m.Nodes {
			h.Sh(t, "iptables -I INPUT -p icmp -j DROP; ip6tables -I INPUT -p icmpv6 --icmpv6-type packet-too-big -j DROP")
		}
	})
	for _, c := range cables() {
		t.Run(c.name, func(t *testing.T) { f.over(t, c.Cable, "ok") })
	}
}

// blackHole: packets of more than 1280 bytes are lost between the nodes, and
// nobody is told so. Bytes may not arrive, as over plain TCP; but no stream hangs, or
// ends as if all was well.
func (f *fixture) blackHole(t *testing.T) {
	f.over(t, testhost.Cable{MTU: 1280}, "ok", "reset", "broken")
}

// over carries bytes both ways on every way over a cable; every stream must have one
// of the results.
func (f *fixture) over(t *testing.T, c testhost.Cable, results ...string) {
	t.Helper()
	const count = 4
	n := size(256<<10, 16<<20)
	var quiet, running []streams
	for _, w := range f.ways {
		quiet = append(quiet, w.start(t, count, "hold").up(t))
	}
	restore := f.there.Replace(t, c)
	for _, w := range f.ways {
		running = append(running, w.start(t, count, "bytes", n))
	}
	slowest := time.Duration(0)
	for _, s := range running {
		slowest = max(slowest, s.all(t, results...).slowest)
	}
	restore()
	for _, s := range quiet {
		s.Signal(syscall.SIGTERM)
		s.all(t, results...)
	}
	figure(t, "the slowest stream", "-", slowest.Round(time.Millisecond), true)
}

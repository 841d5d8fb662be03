// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// BenchmarkCost reads from the kernel how long the programs ran
// (BPF_STATS_RUN_TIME). connect4-ns is one run of the connect hook, the other
// figures are what each further hook takes for one connection from socket() to the
// reset that ends it, and chain-ns is their sum. Denied is the worst case: four
// lookups without a match. ns/op is the time of the whole connection in the client.
func BenchmarkCost(b *testing.B) {
	for _, way := range []string{"same-node", "remote"} {
		for _, verdict := range []string{"allowed", "denied"} {
			for _, n := range []int{10, 1_000, 100_000} {
				b.Run(fmt.Sprintf("%s/%s/intentions=%d", way, verdict, n), func(b *testing.B) { cost(b, way, verdict, n) })
			}
		}
	}
}

func cost(b *testing.B, way, verdict string, intentions int) {
	h := newHost(b)
	v4, _ := h.proxy()
	where, ln := Port{Remote: true}, v4
	if way == "same-node" {
		ln = h.listen("127.0.0.1:15432")
		where = Port{Local: netip.MustParseAddrPort("127.0.0.1:15432"), Anyone: true}
	}
	h.serve(db, 5432, where)
	for i := range intentions - 1 {
		h.ok(h.Intentions().Put(Pair{1000 + uint32(i)%500, 2000 + uint32(i)/500}, i%2 == 0))
	}
	if verdict == "allowed" {
		h.allow(Pair{web, db})
	}
	go takeAll(ln)
	ctx, stop := context.WithCancel(b.Context())
	events := make(chan error, 1)
	go func() { events <- h.Events(ctx, func(Event) {}) }() // so that refusals cost what they do with a daemon
	defer func() { stop(); h.ok(<-events) }()
	cmd := h.command("web", "many", db4, fmt.Sprint(b.N))
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	h.ok(err)
	before := h.runTimes()
	b.ResetTimer()
	out, err := cmd.Output()
	b.StopTimer()
	after := h.runTimes()
	h.ok(stats.Close())
	if want := map[string]string{"allowed": "ok", "denied": refused}[verdict]; err != nil || strings.TrimSpace(string(out)) != want {
		b.Fatalf("%s, %v; want %s", out, err, want)
	}
	report(b, before, after)
}

// takeAll accepts connections, and closes each after its client has.
func takeAll(ln *net.TCPListener) {
	for {
		c, err := ln.AcceptTCP()
		if err != nil {
			return
		}
		_, _ = c.Read(make([]byte, 1))
		_ = c.Close()
	}
}

// runTimes returns the statistics of each hook.
func (h *host) runTimes() map[string]ebpf.ProgramStats {
	h.t.Helper()
	out := map[string]ebpf.ProgramStats{}
	for _, hook := range h.hooks() {
		s, err := hook.prog.Stats()
		h.ok(err)
		out[hook.name] = *s
	}
	return out
}

func report(b *testing.B, before, after map[string]ebpf.ProgramStats) {
	b.Helper()
	var chain time.Duration
	for name, now := range after {
		ran, took := now.RunCount-before[name].RunCount, now.Runtime-before[name].Runtime
		chain += took
		switch {
		case name == "connect4" && ran != uint64(b.N):
			b.Fatalf("connect4 ran %d times for %d connects", ran, b.N)
		case ran > 0:
			b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), name+"-ns")
		}
	}
	b.ReportMetric(float64(chain.Nanoseconds())/float64(b.N), "chain-ns")
}

// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// restarts tries rows at random while both daemons are started, killed and started
// again. At no moment does a row succeed that must not.
func (f *fixture) restarts(t *testing.T, rows []row) {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool {
		if isOpen(r, starting) || isOpen(r, killed) {
			f.table.leave(r.vector, starting)
			return true
		}
		return !chosen(r.vector) || strings.Contains(r.with, "{daemon") // a daemon doesn't start while another process is in its cgroup
	})
	stop := f.tryAtRandom(rows)
	for range 2 {
		f.host1.Daemon(t, redirectFlags()...)
		f.host2.Daemon(t, redirectFlags()...)
		for from, to := range map[string]string{"web": "{v4}:{port}", "box app": "{v4}:{port}", "web2": "{here4}:{port}"} {
			await(t, "db answers "+from+" again", "ok", func() string { return f.attempt(from, "AGAIN", to, "") })
		}
		f.kill(t)
	}
	tried, seen := stop(), f.seen()
	t.Run("starting", func(t *testing.T) {
		for _, o := range tried {
			f.table.add(o.row.vector, starting, f.judgeMeanwhile(t, o, seen))
		}
		t.Logf("%d attempts", len(tried))
	})
}

// judgeMeanwhile judges an attempt during which daemons started or were killed: its
// result is that with daemons or that without, and allowed connections may be cut.
func (f *fixture) judgeMeanwhile(t *testing.T, o outcome, seen string) bool {
	t.Helper()
	want := o.row.expects(up) + "|" + o.row.expects(killed)
	if oneOf("ok", want) {
		want += "|" + notConnected + "|" + refusedOnSend + "|not passed: " + refused
	}
	if !oneOf(o.said, want) && !strings.HasPrefix(o.said, "first: ") { // the first of its connections, an allowed one, was cut
		t.Errorf("%s: the caller saw %q", o.row.name(), o.said)
		return false
	}
	if strings.Contains(seen, o.canary) && !oneOf("ok", want) {
		t.Errorf("%s: the caller saw %q, but a server saw the canary", o.row.name(), o.said)
		return false
	}
	return true
}

// tryAtRandom makes attempts until stop is called, which returns their outcomes in the
// order in which they ended.
func (f *fixture) tryAtRandom(rows []row) (stop func() []outcome) {
	if len(rows) == 0 {
		return func() []outcome { return nil }
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var out []outcome
	done := make(chan struct{})
	for range workers {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				o := f.one(rows[rand.IntN(len(rows))])
				mu.Lock()
				out = append(out, o)
				mu.Unlock()
			}
		})
	}
	return func() []outcome {
		close(done)
		wg.Wait()
		return out
	}
}

// reboot removes what a reboot removes.
func (f *fixture) reboot(t *testing.T) {
	t.Helper()
	for _, h := range []*testhost.Host{f.host1, f.host2} {
		h.Sh(t, "ss -KH dst 240.64.0.0/12; ss -KH dst fd7a:ac17::/32; ss -KH dst [::1]") // connections that still retransmit
		noneWaits(t, h)
		if out, exit := h.Tacitd(t, "cleanup"); exit != 0 {
			t.Fatalf("cleanup on %s: %s", h.Name, out)
		}
	}
}

// noneWaits waits until no packet of a host waits for ARP or neighbour discovery.
// After the routes have been removed, the ICMP error for a packet from a virtual
// address would be sent to that address on the wire.
func noneWaits(t *testing.T, h *testhost.Host) {
	t.Helper()
	testhost.Eventually(t, 10*time.Second, "no packet waits for a neighbour on "+h.Name, func() error {
		if entries := h.Sh(t, "ip neigh show nud incomplete; ip -6 neigh show nud incomplete"); entries != "" {
			return fmt.Errorf("%s", entries)
		}
		return nil
	})
}

// boot tries rows after a reboot, when only `tacitd guard` has run.
func (f *fixture) boot(t *testing.T, rows []row) {
	f.reboot(t)
	for _, h := range []*testhost.Host{f.host1, f.host2} {
		if out, exit := h.Tacitd(t, "guard"); exit != 0 {
			t.Fatalf("guard on %s: %s", h.Name, out)
		}
	}
	f.rows(t, guarded, rows)
}

// firstStart: the guard hasn't run, so that ports are open until the daemon's first
// start has closed them. After its first refusal a row must not succeed again.
func (f *fixture) firstStart(t *testing.T) {
	const vector = "first start of the daemon without tacitd guard"
	if !chosen(vector) {
		return
	}
	f.table.begin(vector)
	f.reboot(t)
	rows := cross(vector, refused, []string{"evil", "nobody", "outside", "stray2"}, []string{"{real4}", "[{real6}]"}, []string{""})
	rows = append(rows, cross(vector, refused, []string{"evil2", "nobody2"}, []string{"127.0.0.1", "[::1]", "{real4}", "[{real6}]"}, []string{""})...)
	stop := f.tryAtRandom(rows)
	for _, h := range []*testhost.Host{f.host1, f.host2} {
		h.Daemon(t, redirectFlags()...)
	}
	testhost.Eventually(t, 20*time.Second, "evil is refused", func() error {
		if said := f.attempt("evil", "x", "{v4}:{port}", ""); said != refused {
			return fmt.Errorf("%s", said)
		}
		return nil
	})
	tried := append(stop(), f.try(workers, rows)...)
	for _, r := range rows {
		f.holds(t, vector, r.from+" to "+r.to, func(t *testing.T) { onceRefused(t, r, tried) })
	}
}

// onceRefused fails where an attempt succeeded that began after another one had been
// refused, and where the last attempt wasn't refused.
func onceRefused(t *testing.T, r row, tried []outcome) {
	t.Helper()
	tried = slices.DeleteFunc(slices.Clone(tried), func(o outcome) bool { return o.row != r })
	slices.SortFunc(tried, func(x, y outcome) int { return x.began.Compare(y.began) })
	var closed time.Time
	for _, o := range tried {
		switch {
		case o.said == refused && (closed.IsZero() || o.ended.Before(closed)):
			closed = o.ended
		case o.said == "ok" && !closed.IsZero() && o.began.After(closed):
			t.Errorf("succeeded %s after a refusal", o.began.Sub(closed))
		}
	}
	if last := tried[len(tried)-1]; last.said != refused {
		t.Errorf("after %d attempts: %s", len(tried), last.said)
	}
}

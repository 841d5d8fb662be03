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

// restarts tries rows all the time while both daemons are started, killed and
// started again: nothing wrong comes through at any moment.
func (b *bed) restarts(t *testing.T, rows []row) {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool {
		if isOpen(r, starting) || isOpen(r, killed) {
			b.table.leave(r.vector, starting)
			return true
		}
		return strings.Contains(r.with, "{daemon") // a daemon doesn't start beside another in its cgroup
	})
	stop := b.storm(rows)
	for range 2 {
		b.host1.Daemon(t, way()...)
		b.host2.Daemon(t, way()...)
		for from, to := range map[string]string{"web": "{v4}:{port}", "box app": "{v4}:{port}", "web2": "{here4}:{port}"} {
			eventually(t, "db answers "+from+" again", "ok", func() string { return b.attempt(from, "AGAIN", to, "") })
		}
		b.kill(t)
	}
	tried, seen := stop(), b.seen()
	t.Run("starting", func(t *testing.T) {
		for _, o := range tried {
			b.table.add(o.row.vector, starting, b.meanwhile(t, o, seen))
		}
		t.Logf("%d attempts", len(tried))
	})
}

// meanwhile judges an attempt during which daemons came or went: it is what it
// would be with them or without; who is allowed may be cut.
func (b *bed) meanwhile(t *testing.T, o outcome, seen string) bool {
	t.Helper()
	want := o.row.expects(up) + "|" + o.row.expects(killed)
	if oneOf("ok", want) {
		want += "|" + stuck + "|" + lazy + "|not passed: " + refused
	}
	if !oneOf(o.said, want) && !strings.HasPrefix(o.said, "first: ") { // cut where it was allowed to be
		t.Errorf("%s: the caller saw %q", o.row.name(), o.said)
		return false
	}
	if strings.Contains(seen, o.canary) && !oneOf("ok", want) {
		t.Errorf("%s: the caller saw %q, but a server saw the canary", o.row.name(), o.said)
		return false
	}
	return true
}

// storm makes attempts at random until stop, which returns them in the order of
// their ends.
func (b *bed) storm(rows []row) (stop func() []outcome) {
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
				o := b.one(rows[rand.IntN(len(rows))])
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

// reboot takes all that a reboot takes.
func (b *bed) reboot(t *testing.T) {
	t.Helper()
	for _, h := range []*testhost.Host{b.host1, b.host2} {
		b.sh(h, "ss -KH dst 240.64.0.0/12; ss -KH dst fd7a:ac17::/32; ss -KH dst [::1]") // what still retransmits
		if out, exit := h.Tacitd(t, "cleanup"); exit != 0 {
			t.Fatalf("cleanup on %s: %s", h.Name, out)
		}
	}
}

// boot: the hosts come up, and nothing of ours runs yet but the guard.
func (b *bed) boot(t *testing.T, rows []row) {
	b.reboot(t)
	for _, h := range []*testhost.Host{b.host1, b.host2} {
		if out, exit := h.Tacitd(t, "guard"); exit != 0 {
			t.Fatalf("guard on %s: %s", h.Name, out)
		}
	}
	b.rows(t, guarded, rows)
}

// firstStart: not even the guard has run, so that ports are open; from the
// first refusal on nobody gets in again, whatever the daemon does next.
func (b *bed) firstStart(t *testing.T) {
	const vector = "the daemon's first start, without a guard"
	b.table.begin(vector)
	b.reboot(t)
	rows := cross(vector, refused, []string{"evil", "nobody", "outside", "stray2"}, []string{"{real4}", "[{real6}]"}, []string{""})
	rows = append(rows, cross(vector, refused, []string{"evil2", "nobody2"}, []string{"127.0.0.1", "[::1]", "{real4}", "[{real6}]"}, []string{""})...)
	stop := b.storm(rows)
	for _, h := range []*testhost.Host{b.host1, b.host2} {
		h.Daemon(t, way()...)
	}
	testhost.Eventually(t, 20*time.Second, "evil is refused", func() error {
		if said := b.attempt("evil", "x", "{v4}:{port}", ""); said != refused {
			return fmt.Errorf("%s", said)
		}
		return nil
	})
	tried := append(stop(), b.try(workers, rows)...)
	for _, r := range rows {
		b.holds(t, vector, r.from+" to "+r.to, func(t *testing.T) { onceRefused(t, r, tried) })
	}
}

// onceRefused wants no success of an attempt that began after another had been
// refused, and a refusal in the end.
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
			t.Errorf("let in %s after it had been refused", o.began.Sub(closed))
		}
	}
	if last := tried[len(tried)-1]; last.said != refused {
		t.Errorf("after %d attempts: %s", len(tried), last.said)
	}
}

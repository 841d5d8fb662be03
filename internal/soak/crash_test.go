// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"fmt"
	"maps"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

const crashRate = 500 // attempts a second

// dead is a time without a daemon on a host.
type dead struct {
	host        *testhost.Host
	from, until time.Time // killed; started again
	ready, back time.Duration
	stepwise    bool // killed while it was starting, all the time
}

// crashBed counts crashes.
type crashBed struct {
	*bed
	daemons map[*testhost.Host]*testhost.Daemon
	dead    []dead
	ever    objects // of every daemon that got ready
	changed int     // cycles after which a count differed
}

// TestCrash kills the daemon of each node in turn under load, as it runs and
// at each step of its start.
func TestCrash(t *testing.T) {
	empty := map[*testhost.Host]func(){}
	b := &crashBed{ever: objects{}, daemons: map[*testhost.Host]*testhost.Daemon{}}
	b.bed = newBed(t, func(h *testhost.Host) { empty[h] = h.Leaks(t) })
	hosts := []*testhost.Host{b.host1, b.host2}
	cycles := size(4, 20)
	done := 0
	stop := progress(t, func() string { return fmt.Sprintf("%d of %d crashes", done, cycles) })
	var first state
	for ; done < cycles; done++ {
		b.cycle(hosts[done%2])
		if done == 1 {
			first = b.state(b.daemons)
		}
		if done > 1 {
			b.compare(fmt.Sprintf("crash %d", done+1), first)
		}
	}
	stop()
	for _, h := range hosts {
		b.steps(h)
		b.compare("killed at each step of the start, "+h.Name, first)
	}
	zero(t, "crash: cycles after which something was more or less than after the first", b.changed)
	b.closed(t, "crash")
	b.report(t)
	b.cleanUp(hosts, empty)
}

func (b *crashBed) compare(what string, first state) {
	var err error
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); after(100 * time.Millisecond) {
		if err = b.state(b.daemons).differs(first); err == nil {
			err = b.nothingOld()
		}
		if err == nil {
			return
		}
	}
	b.changed++
	b.t.Logf("%s: %v", what, err)
}

// nothingOld wants the objects of dead daemons to be gone where the present
// ones don't hold them.
func (b *crashBed) nothingOld() error {
	b.t.Helper()
	now := objects{}
	for _, d := range b.daemons {
		now.held(b.t, d.PID())
	}
	maps.Copy(b.ever, now)
	for _, name := range b.ever.alive(b.t) {
		if !now[name] {
			return fmt.Errorf("%s is a dead daemon's, and still there", name)
		}
	}
	return nil
}

// cycle is one crash under load. The daemon stays dead for half a second.
func (b *crashBed) cycle(h *testhost.Host) {
	b.t.Helper()
	b.load(crashRate)
	after(300 * time.Millisecond)
	h.Kill(b.t)
	d := dead{host: h, from: time.Now()}
	after(500 * time.Millisecond)
	d.until = time.Now()
	b.daemons[h] = h.Daemon(b.t, "--log-level", "warn")
	d.ready = time.Since(d.until)
	b.back(d)
	if other := b.other(h); b.daemons[other] == nil {
		b.daemons[other] = other.Current(b.t)
	}
}

// back waits for web's first answer on both nodes, and lets the load go on for
// a moment.
func (b *crashBed) back(d dead) {
	b.t.Helper()
	for _, h := range []*testhost.Host{b.host1, b.host2} {
		testhost.Eventually(b.t, 30*time.Second, "web is answered again", func() error { return b.answeredSince(h, d.until) })
	}
	after(200 * time.Millisecond)
	b.rest()
	for _, a := range b.all(d.host, "web") {
		if took := a.end().Sub(d.until); a.result == "ok" && a.start.After(d.until) && (d.back == 0 || took < d.back) {
			d.back = took
		}
	}
	b.dead = append(b.dead, d)
}

func (b *crashBed) other(h *testhost.Host) *testhost.Host {
	if h == b.host1 {
		return b.host2
	}
	return b.host1
}

// steps kills a daemon sooner and later after its start, under load, until
// one has got as far as to be ready; then one may live.
func (b *crashBed) steps(h *testhost.Host) {
	b.t.Helper()
	b.load(crashRate)
	h.Kill(b.t)
	d := dead{host: h, from: time.Now(), stepwise: true}
	kills, latest := 0, 2*b.dead[len(b.dead)-1].ready
	for at := time.Duration(0); at < latest; at += max(latest/time.Duration(size(6, 60)), time.Millisecond) {
		p := h.Start(b.t, "init", h.Bin("tacitd"), append(h.Flags(), "--log-level", "warn")...)
		after(at)
		p.Signal(syscall.SIGKILL)
		<-p.Ended()
		kills++
	}
	d.until = time.Now()
	b.daemons[h] = h.Daemon(b.t, "--log-level", "warn")
	d.ready = time.Since(d.until)
	b.back(d)
	figure(b.t, "crash: kills at steps of the start, "+h.Name, "%d, up to %s after it", kills, latest.Round(time.Millisecond))
}

// report says how fast calls were refused and how soon the mesh was back.
func (b *crashBed) report(t *testing.T) {
	var refused, back, ready []time.Duration
	odd, open := map[string]int{}, 0
	for _, d := range b.dead {
		back, ready = append(back, d.back), append(ready, d.ready)
		if d.stepwise {
			continue
		}
		for _, name := range []string{"web", "evil", "nobody"} {
			for _, a := range b.all(d.host, name) {
				if a.start.Before(d.from) || a.end().After(d.until) {
					continue
				}
				switch a.result {
				case "connect:ECONNREFUSED":
					refused = append(refused, a.took)
				case "ok":
					open++
				default:
					odd[a.result]++
				}
			}
		}
	}
	zero(t, "crash: answered while the caller's daemon was dead", open)
	count(t, "crash: results then besides ECONNREFUSED", "none", odd, len(odd) == 0)
	at := func(p int) time.Duration { spread(refused); return refused[len(refused)*p/100] }
	text := spread(refused)
	limit := 50 * time.Millisecond
	if !full() {
		limit = time.Second
	}
	count(t, "crash: refused while dead", "p99 under "+limit.String(), text, len(refused) > 0 && at(99) < limit)
	count(t, "crash: answered again after the start", "2 s", spread(back), back[len(back)-1] < time.Duration(size(10, 2))*time.Second)
	figure(t, "crash: ready after the start", "%s", spread(ready))
	all := tally(b.all(nil, "web"))
	figure(t, "crash: what web got in all that time", "%v", all)
}

// cleanUp takes everything away, and nothing may be left.
func (b *crashBed) cleanUp(hosts []*testhost.Host, empty map[*testhost.Host]func()) {
	b.t.Helper()
	b.db.Signal(syscall.SIGKILL)
	<-b.db.Ended()
	for _, h := range hosts {
		h.Kill(b.t)
		if out, exit := h.Tacitd(b.t, "cleanup"); exit != 0 {
			b.t.Errorf("%s: cleanup: exit %d, %s", h.Name, exit, out)
		}
		empty[h]()
	}
	gone(b.t, b.ever)
	zero(b.t, "crash: of "+b.ever.kinds()+", left after cleanup", len(b.ever.alive(b.t)))
}

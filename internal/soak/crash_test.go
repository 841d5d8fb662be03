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

// dead is a period in which a host had no daemon.
type dead struct {
	host        *testhost.Host
	from, until time.Time // killed; started again
	ready, back time.Duration
	stepwise    bool // daemons were started in it, and killed before they were ready
}

// crashFixture is a loaded mesh whose daemons are killed.
type crashFixture struct {
	*loadFixture
	daemons map[*testhost.Host]*testhost.Daemon
	dead    []dead
	ever    objects // of every daemon that got ready
	changed int     // cycles after which the state differed
}

// TestCrash kills the daemons in turn under load, while they run and at many
// moments of their start.
func TestCrash(t *testing.T) {
	empty := map[*testhost.Host]func(){}
	f := &crashFixture{ever: objects{}, daemons: map[*testhost.Host]*testhost.Daemon{}}
	f.loadFixture = newLoadFixture(t, func(h *testhost.Host) { empty[h] = h.Leaks(t) })
	hosts := []*testhost.Host{f.host1, f.host2}
	cycles := size(4, 20)
	done := 0
	stop := progress(t, func() string { return fmt.Sprintf("%d of %d crashes", done, cycles) })
	var first state
	for ; done < cycles; done++ {
		f.cycle(hosts[done%2])
		if done == 1 {
			first = f.state(f.daemons)
		}
		if done > 1 {
			f.compare(fmt.Sprintf("crash %d", done+1), first)
		}
	}
	stop()
	for _, h := range hosts {
		f.steps(h)
		f.compare("killed at each step of the start, "+h.Name, first)
	}
	zero(t, "crash: cycles after which the state differed from that after the first", f.changed)
	f.closed(t, "crash")
	f.report(t)
	f.cleanUp(hosts, empty)
}

func (f *crashFixture) compare(what string, first state) {
	var err error
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); after(100 * time.Millisecond) {
		if err = f.state(f.daemons).differs(first); err == nil {
			err = f.nothingOld()
		}
		if err == nil {
			return
		}
	}
	f.changed++
	f.t.Logf("%s: %v", what, err)
}

// nothingOld fails where an eBPF object of a dead daemon still exists and no
// present daemon holds it.
func (f *crashFixture) nothingOld() error {
	f.t.Helper()
	now := objects{}
	for _, d := range f.daemons {
		now.held(f.t, d.PID())
	}
	maps.Copy(f.ever, now)
	for _, name := range f.ever.alive(f.t) {
		if !now[name] {
			return fmt.Errorf("%s of a dead daemon still exists", name)
		}
	}
	return nil
}

// cycle is one crash under load. The daemon stays dead for half a second.
func (f *crashFixture) cycle(h *testhost.Host) {
	f.t.Helper()
	f.load(crashRate)
	after(300 * time.Millisecond)
	h.Kill(f.t)
	d := dead{host: h, from: time.Now()}
	after(500 * time.Millisecond)
	d.until = time.Now()
	f.daemons[h] = h.Daemon(f.t, quiet()...)
	d.ready = time.Since(d.until)
	f.back(d)
	if other := f.other(h); f.daemons[other] == nil {
		f.daemons[other] = other.Current(f.t)
	}
}

// back waits until web is answered on both nodes, and lets the load go on for a
// moment.
func (f *crashFixture) back(d dead) {
	f.t.Helper()
	for _, h := range []*testhost.Host{f.host1, f.host2} {
		testhost.Eventually(f.t, 30*time.Second, "web is answered again", func() error { return f.answeredSince(h, d.until) })
	}
	after(200 * time.Millisecond)
	f.rest()
	for _, a := range f.all(d.host, "web") {
		if took := a.end().Sub(d.until); a.result == "ok" && a.start.After(d.until) && (d.back == 0 || took < d.back) {
			d.back = took
		}
	}
	f.dead = append(f.dead, d)
}

func (f *crashFixture) other(h *testhost.Host) *testhost.Host {
	if h == f.host1 {
		return f.host2
	}
	return f.host1
}

// steps starts daemons under load and kills each after a longer time, up to twice
// what a start takes; the last one may run.
func (f *crashFixture) steps(h *testhost.Host) {
	f.t.Helper()
	f.load(crashRate)
	h.Kill(f.t)
	d := dead{host: h, from: time.Now(), stepwise: true}
	kills, latest := 0, 2*f.dead[len(f.dead)-1].ready
	for at := time.Duration(0); at < latest; at += max(latest/time.Duration(size(6, 60)), time.Millisecond) {
		p := h.Start(f.t, "init", h.Bin("tacitd"), append(h.Flags(), quiet()...)...)
		after(at)
		p.Signal(syscall.SIGKILL)
		<-p.Ended()
		kills++
	}
	d.until = time.Now()
	f.daemons[h] = h.Daemon(f.t, quiet()...)
	d.ready = time.Since(d.until)
	f.back(d)
	figure(f.t, "crash: kills at steps of the start, "+h.Name, "%d, up to %s after it", kills, latest.Round(time.Millisecond))
}

// report says how fast calls were refused, and how soon they were answered again.
func (f *crashFixture) report(t *testing.T) {
	var refused, back, ready []time.Duration
	odd, open := map[string]int{}, 0
	for _, d := range f.dead {
		back, ready = append(back, d.back), append(ready, d.ready)
		if d.stepwise {
			continue
		}
		for _, name := range []string{"web", "evil", "nobody"} {
			for _, a := range f.all(d.host, name) {
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
	all := tally(f.all(nil, "web"))
	figure(t, "crash: all results of web", "%v", all)
}

// cleanUp runs `tacitd cleanup`, after which nothing may be left.
func (f *crashFixture) cleanUp(hosts []*testhost.Host, empty map[*testhost.Host]func()) {
	f.t.Helper()
	f.db.Signal(syscall.SIGKILL)
	<-f.db.Ended()
	for _, h := range hosts {
		h.Kill(f.t)
		if out, exit := h.Tacitd(f.t, "cleanup"); exit != 0 {
			f.t.Errorf("%s: cleanup: exit %d, %s", h.Name, exit, out)
		}
		empty[h]()
	}
	gone(f.t, f.ever)
	zero(f.t, "crash: of "+f.ever.kinds()+", left after cleanup", len(f.ever.alive(f.t)))
}

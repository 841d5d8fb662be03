// SPDX-License-Identifier: Apache-2.0

// Package battery tries to reach services in every way that bypasses the mesh. An
// attempt is a row; the rows that try the same thing are a vector. Each row is
// checked at the caller, at the server and on the wire. It must not look inside
// the product: a row is what a program can do, and what its two ends see.
//
// A new vector is one more call of cross in a function that TestBattery lists; a
// way to connect that vectors.py doesn't have yet is one more word there. Rows that
// fail today are listed in open(). One vector alone:
//
//	TACIT_BATTERY_VECTOR='^io_uring$' go test -v ./internal/battery -run TestBattery
package battery

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// workers is how many attempts are made at once: they mostly wait.
const workers = 8

// row is one attempt.
type row struct {
	vector string // its line in the table
	from   string // a caller: see addCallers
	to     string // ADDRESS:PORT; words in braces are places: see fillPlaces
	with   string // words for vectors.py, with places
	want   string // what vectors.py must print; alternatives are separated by |
	killed string // the same while the daemons are killed; "" means derived from want
	free   bool   // outside of the mesh: the same result in every phase
}

func (r row) name() string {
	return strings.TrimSpace(strings.ReplaceAll(r.vector+"/"+r.from+" to "+r.to+" "+r.with, " ", "_"))
}

// expects is the row's result in a phase. Without daemons, what was refused is still
// refused, and what was allowed is refused too, since nothing carries it. Before the
// first daemon no identities and no virtual addresses are known.
func (r row) expects(p phase) string {
	switch {
	case r.free || p == up:
		return r.want
	case p == guarded:
		return unreachable + "|" + refusedOnSend + "|bind: EACCES"
	case r.killed != "":
		return r.killed
	case !oneOf("ok", r.want):
		return r.want
	}
	others := slices.DeleteFunc(strings.Split(r.want, "|"), func(w string) bool { return w == "ok" })
	return strings.Join(append(others, refusedOnSend), "|")
}

// TestBattery runs all rows while the daemons run, are killed and are starting, and
// some with only what `tacitd guard` has set after a boot. It fails where a row does,
// where a canary or a packet for a virtual address was on the wire, and where a
// server accepted a connection that brought nothing.
func TestBattery(t *testing.T) {
	f := newFixture(t)
	defer f.table.print(t)
	rows := slices.Concat(straight(), places(), sameNode(), sameNodeDirect(), forms(), sockets(), rings(), options(), datagrams(), packetRows(),
		borders(), cgroups(), containers(), outsideMesh(), files())
	f.rows(t, up, rows)
	f.scenes(t)
	f.ports(t)
	f.listeners(t)
	f.ages(t)
	f.kill(t)
	f.rows(t, killed, rows)
	f.wire.check(t)
	t.Run("accepted", f.onlyCanaries)
	f.restarts(t, rows)
	f.boot(t, slices.Concat(straight(), places(), sameNode(), sockets()))
	f.wire.check(t)
	f.firstStart(t)
}

func (f *fixture) kill(t *testing.T) {
	t.Helper()
	f.host1.Kill(t)
	f.host2.Kill(t)
}

// outcome is what happened to a row's attempt.
type outcome struct {
	row    row
	canary string
	said   string // printed by vectors.py
	began  time.Time
	ended  time.Time
	leaked bool // the canary was on the wire in plain text
}

// rows tries rows in a phase, several at once, and judges them.
func (f *fixture) rows(t *testing.T, p phase, rows []row) {
	t.Helper()
	var todo []row
	for _, r := range rows {
		if !chosen(r.vector) {
			continue
		}
		f.table.begin(r.vector)
		if isOpen(r, p) {
			f.table.leave(r.vector, p)
			continue
		}
		todo = append(todo, r)
	}
	f.report(t, p, f.try(workers, todo))
}

// report judges attempts, each in a subtest.
func (f *fixture) report(t *testing.T, p phase, tried []outcome) {
	t.Helper()
	seen, leaked := f.seen(), f.wire.leaked(t)
	t.Run(strings.ReplaceAll(string(p), " ", "_"), func(t *testing.T) {
		for _, o := range tried {
			o.leaked = leaked[o.canary]
			held := t.Run(o.row.name(), func(t *testing.T) { f.judge(t, p, o, seen) })
			f.table.add(o.row.vector, p, held)
			if held && listed(o.row, p) {
				t.Logf("listed in open(), but holds: %s", o.row.name())
			}
		}
	})
}

// try makes attempts, n at once, and returns their outcomes in the order of the rows.
func (f *fixture) try(n int, rows []row) []outcome {
	out := make([]outcome, len(rows))
	next := make(chan int)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for i := range next {
				out[i] = f.one(rows[i])
			}
		})
	}
	for i := range rows {
		next <- i
	}
	close(next)
	wg.Wait()
	return out
}

func (f *fixture) one(r row) outcome {
	canary := fmt.Sprintf("%s%d.", canaryPrefix, f.tries.Add(1))
	if isOutside(r.from) || r.free || strings.Contains(r.with, "frame=") { // may be on the wire in plain text
		canary = "OUTSIDE." + canary[len(canaryPrefix):]
	}
	o := outcome{row: r, canary: canary, began: time.Now()}
	o.said = f.attempt(r.from, canary, r.to, r.with)
	o.ended = time.Now()
	return o
}

// judge compares what the caller, the servers and the wire saw with what the row wants.
func (f *fixture) judge(t *testing.T, p phase, o outcome, seen string) {
	t.Helper()
	want := o.row.expects(p)
	if !oneOf(o.said, want) {
		t.Errorf("%s: the caller saw %q, want %q", f.describe(o), o.said, want)
	}
	if strings.Contains(seen, o.canary) && !oneOf("ok", want) {
		t.Errorf("%s: the caller saw %q, but a server saw the canary", f.describe(o), o.said)
	}
	if o.leaked {
		t.Errorf("%s: the canary was on the wire in plain text", f.describe(o))
	}
}

// describe is a row's attempt with its places filled in.
func (f *fixture) describe(o outcome) string {
	return o.row.from + " to " + f.place(o.row.to) + " " + f.place(o.row.with)
}

// seen is the output of all servers.
func (f *fixture) seen() string {
	var all strings.Builder
	for _, s := range f.servers {
		all.WriteString(s.Output())
	}
	return all.String()
}

func oneOf(said, want string) bool {
	return slices.Contains(strings.Split(want, "|"), said)
}

// onlyCanaries checks that each connection which a service's server accepted
// brought data: a denied caller's connection isn't accepted at all.
func (f *fixture) onlyCanaries(t *testing.T) {
	for _, name := range []string{"db", "mp", "shut"} {
		testhost.Eventually(t, 10*time.Second, name+"'s connections", func() error {
			log := "\n" + f.servers[name].Output()
			if n := strings.Count(log, "\nempty "); n > 0 {
				return fmt.Errorf("%d connections brought nothing:\n%s", n, log)
			}
			if a, e := strings.Count(log, "\naccepted "), strings.Count(log, "\nended "); a != e {
				return fmt.Errorf("%d accepted, %d ended:\n%s", a, e, log)
			}
			return nil
		})
	}
}

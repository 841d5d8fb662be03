// SPDX-License-Identifier: Apache-2.0

// Package battery tries to reach a service by every way but the straight one,
// a row of a table each, and looks at what came through on the node that would
// have received it and on the wire. It must not look inside a room: a row is
// what a program can do and what a person can see.
//
// A new vector is one more row; a way that vectors.py can't go yet is one more
// word there. Rows whose product is wrong today are named in open().
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

// workers make attempts at the same time: most of it is waiting.
const workers = 8

// row is one attempt.
type row struct {
	vector string // its line in the table
	from   string // a caller: see hire
	to     string // ADDRESS:PORT; {…} are places: see findPlaces
	with   string // words for vectors.py, with places
	want   string // what vectors.py says; several, separated by |, where both are right
	killed string // the same, with the daemons killed; "" is what want makes it
	free   bool   // none of the mesh's business: the same in every phase
}

func (r row) name() string {
	return strings.TrimSpace(strings.ReplaceAll(r.vector+"/"+r.from+" to "+r.to+" "+r.with, " ", "_"))
}

// expects is what the row gives in a phase. When nobody carries connections any
// more, what was refused still is, and what was allowed has no way. Before the
// daemon is there nobody is known to be anybody, nor an address to be a service's.
func (r row) expects(p phase) string {
	switch {
	case r.free || p == up:
		return r.want
	case p == guarded:
		return nowhere + "|" + lazy
	case r.killed != "":
		return r.killed
	case !oneOf("ok", r.want):
		return r.want
	}
	others := slices.DeleteFunc(strings.Split(r.want, "|"), func(w string) bool { return w == "ok" })
	return strings.Join(append(others, lazy), "|")
}

// TestBattery runs all rows with the daemons up, killed, starting, and, for the
// plain ones, with nothing there but what `tacitd guard` has set after a boot.
// Afterwards no canary has been seen on the wire, nor any packet for a virtual
// address, nor has a server accepted a connection without a canary.
func TestBattery(t *testing.T) {
	b := newBed(t)
	defer b.table.print(t)
	rows := slices.Concat(straight(), places(), sameNode(), forms(), sockets(), rings(), options(), datagrams(), packetRows(),
		borders(), cgroups(), containers(), leftAlone(), files())
	b.rows(t, up, rows)
	b.scenes(t)
	b.ports(t)
	b.listeners(t)
	b.ages(t)
	b.kill(t)
	b.rows(t, killed, rows)
	b.wire.check(t)
	t.Run("accepted", b.strict)
	b.restarts(t, rows)
	b.boot(t, slices.Concat(straight(), places(), sameNode(), sockets()))
	b.wire.check(t)
	b.firstStart(t)
}

func (b *bed) kill(t *testing.T) {
	t.Helper()
	b.host1.Kill(t)
	b.host2.Kill(t)
}

// outcome is what both ends saw of a row.
type outcome struct {
	row    row
	canary string
	said   string
	began  time.Time
	ended  time.Time
	leaked bool // the canary was on the wire in clear
}

// rows runs rows in a phase, several at a time, and judges them.
func (b *bed) rows(t *testing.T, p phase, rows []row) {
	t.Helper()
	var todo []row
	for _, r := range rows {
		b.table.begin(r.vector)
		if isOpen(r, p) {
			b.table.leave(r.vector, p)
			continue
		}
		todo = append(todo, r)
	}
	b.report(t, p, b.try(workers, todo))
}

// report judges attempts, a subtest each.
func (b *bed) report(t *testing.T, p phase, tried []outcome) {
	t.Helper()
	seen, leaked := b.seen(), b.wire.leaked(t)
	t.Run(strings.ReplaceAll(string(p), " ", "_"), func(t *testing.T) {
		for _, o := range tried {
			o.leaked = leaked[o.canary]
			held := t.Run(o.row.name(), func(t *testing.T) { b.judge(t, p, o, seen) })
			b.table.add(o.row.vector, p, held)
			if held && listed(o.row, p) {
				t.Logf("holds, and is in open(): %s", o.row.name())
			}
		}
	})
}

// try makes attempts, n at a time; the order of what comes back is that of the rows.
func (b *bed) try(n int, rows []row) []outcome {
	out := make([]outcome, len(rows))
	next := make(chan int)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for i := range next {
				out[i] = b.one(rows[i])
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

func (b *bed) one(r row) outcome {
	canary := fmt.Sprintf("%s%d.", canaryPrefix, b.tries.Add(1))
	if stranger(r.from) || r.free || strings.Contains(r.with, "frame=") { // its bytes are to be seen
		canary = "STRANGER." + canary[len(canaryPrefix):]
	}
	o := outcome{row: r, canary: canary, began: time.Now()}
	o.said = b.attempt(r.from, canary, r.to, r.with)
	o.ended = time.Now()
	return o
}

// judge compares what both ends saw with what they must see.
func (b *bed) judge(t *testing.T, p phase, o outcome, seen string) {
	t.Helper()
	want := o.row.expects(p)
	if !oneOf(o.said, want) {
		t.Errorf("%s: the caller saw %q, want %q", b.what(o), o.said, want)
	}
	if strings.Contains(seen, o.canary) && !oneOf("ok", want) {
		t.Errorf("%s: the caller saw %q, but a server saw the canary", b.what(o), o.said)
	}
	if o.leaked {
		t.Errorf("%s: the canary was on the wire in clear", b.what(o))
	}
}

// what is a row's attempt in words.
func (b *bed) what(o outcome) string {
	return o.row.from + " to " + b.place(o.row.to) + " " + b.place(o.row.with)
}

// seen is what all servers have written.
func (b *bed) seen() string {
	var all strings.Builder
	for _, s := range b.servers {
		all.WriteString(s.Output())
	}
	return all.String()
}

func oneOf(said, want string) bool {
	return slices.Contains(strings.Split(want, "|"), said)
}

// strict wants every connection that a service's server accepted to have
// brought something: who may not speak isn't accepted either.
func (b *bed) strict(t *testing.T) {
	for _, name := range []string{"db", "mp", "shut"} {
		testhost.Eventually(t, 10*time.Second, name+"'s connections", func() error {
			log := "\n" + b.servers[name].Output()
			if n := strings.Count(log, "\nempty "); n > 0 {
				return fmt.Errorf("%d brought nothing:\n%s", n, log)
			}
			if a, e := strings.Count(log, "\naccepted "), strings.Count(log, "\nended "); a != e {
				return fmt.Errorf("%d accepted, %d ended:\n%s", a, e, log)
			}
			return nil
		})
	}
}

// eventually is testhost.Eventually for a text that must turn up.
func eventually(t testing.TB, what, want string, text func() string) {
	t.Helper()
	testhost.Eventually(t, 10*time.Second, what, func() error {
		if got := text(); !strings.Contains(got, want) {
			return fmt.Errorf("no %q in %s", want, got)
		}
		return nil
	})
}

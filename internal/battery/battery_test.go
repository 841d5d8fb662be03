// SPDX-License-Identifier: Apache-2.0

// Package battery tries to reach a service by every way but the straight one,
// a row of a table each, and looks at what came through on the node that would
// have received it and on the wire. It must not look inside a room: a row is
// what a program can do and what a person can see.
package battery

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// row is one attempt.
type row struct {
	name string
	from string // a caller: see callers
	to   string // ADDRESS:PORT; {…} are places: see bed.places
	with string // words for vectors.py, with places
	want string // what vectors.py says; several, separated by |, where both are right
}

// reaches says whether the server must have seen the row's canary.
func (r row) reaches() bool { return r.want == "ok" }

// TestBattery runs the rows with the daemons up, then the plain ones with both
// killed. Afterwards, no canary has been seen on the wire, nor any packet for
// a virtual address, nor did the server accept a connection without a canary.
func TestBattery(t *testing.T) {
	b := newBed(t)
	for _, r := range slices.Concat(plain(), places(), sockets(), datagrams(), borders(), sameNode(), direct(), namespaces()) {
		t.Run(r.name, func(t *testing.T) { b.try(t, r) })
	}
	t.Run("ports", b.ports)
	t.Run("impostor", b.impostor)
	t.Run("virtual listener", b.virtualListener)
	b.host1.Kill(t)
	b.host2.Kill(t)
	for _, r := range slices.Concat(plain(), sameNode()) {
		t.Run("killed/"+r.name, func(t *testing.T) { b.try(t, r.killed()) })
	}
	for _, r := range direct() {
		t.Run("killed/"+r.name, func(t *testing.T) { b.try(t, r) })
	}
	b.wire.check(t)
	b.accepted(t)
}

// killed is what the row gives when nobody carries connections any more. What
// was refused still is; what was allowed has no way.
func (r row) killed() row {
	if r.reaches() {
		r.want = "connect: ECONNREFUSED"
	}
	return r
}

// try runs one row and compares what both ends saw.
func (b *bed) try(t *testing.T, r row) {
	t.Helper()
	b.tries++
	canary := fmt.Sprintf("%s%d.", canaryPrefix, b.tries)
	said := b.attempt(t, r.from, canary, r.to, r.with)
	if !oneOf(said, r.want) {
		t.Errorf("%s to %s %s: the caller saw %q, want %q", r.from, b.place(r.to), r.with, said, r.want)
	}
	if r.reaches() {
		b.reached++
	}
	if seen := strings.Contains(b.server.Output(), canary); seen != r.reaches() {
		t.Errorf("%s to %s %s: the server saw the canary: %v, want %v", r.from, b.place(r.to), r.with, seen, r.reaches())
	}
}

// attempt runs vectors.py as a caller; what it says is one line.
func (b *bed) attempt(t *testing.T, from, canary, to, with string) string {
	t.Helper()
	c := b.caller(t, from)
	words := append([]string{b.script("vectors.py"), canary, b.place(to)}, strings.Fields(b.place(with))...)
	out, _ := c.host.Run(t, c.cgroup, testhost.Python(), words...)
	return strings.TrimSpace(out)
}

func oneOf(said, want string) bool {
	for w := range strings.SplitSeq(want, "|") {
		if said == w {
			return true
		}
	}
	return false
}

// accepted wants every connection that the server accepted to have brought the
// canary of a row that may reach it.
func (b *bed) accepted(t *testing.T) {
	t.Helper()
	log := b.server.Output()
	if got := strings.Count(log, "\naccepted "); got != b.reached {
		t.Errorf("the server accepted %d connections, want the %d of rows that reach it\n%s", got, b.reached, log)
	}
	if got := strings.Count(log, "\ngot "); got != b.reached {
		t.Errorf("the server got %d messages, want %d\n%s", got, b.reached, log)
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

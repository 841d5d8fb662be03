// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/policy"
	"tacit/tproxy/lane"
)

// mute is the address of a listener whose queue is full: connect() never ends.
func mute(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = unix.Listen(fd, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	at, _ := unix.Getsockname(fd)
	t.Cleanup(func() { _ = unix.Close(fd) })
	for range 2 {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Connect(c, at)
		t.Cleanup(func() { _ = unix.Close(c) })
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(at.(*unix.SockaddrInet4).Port)).String()
}

// TestConnectNeverEnds: a program here that doesn't accept costs one attempt, not
// more, where another instance is left.
func TestConnectNeverEnds(t *testing.T) {
	a, _, _ := trio(t, "", echo)
	silent := mute(t)
	a.with(func() {
		a.programs["db"] = silent
		a.target = Target{Node: "a", Port: 5432, Instance: "db-0", Local: true}
	})
	ask(t, a)
	if f := a.lastFlow(1); f.Node != "c" || f.Duration > connectBudget {
		t.Errorf("went to %q in %v", f.Node, f.Duration)
	}
}

// TestStoppedWhileConnecting: a stream whose program doesn't accept ends at once when
// it is cut, at both ends, and leaves nothing behind.
func TestStoppedWhileConnecting(t *testing.T) {
	for name, mk := range map[string]func(t *testing.T) (a, cuts *host){
		"local": func(t *testing.T) (a, cuts *host) { a = local(t, echo); return a, a },
		"lane":  func(t *testing.T) (a, cuts *host) { return pair(t, echo) },
	} {
		t.Run(name, func(t *testing.T) {
			a, cuts := mk(t)
			silent := mute(t)
			cuts.with(func() { cuts.programs["db"] = silent })
			before := descriptors(t)
			c := a.call()
			eventually(t, "the stream", func() bool { return len(cuts.Flows()) == 1 })
			cuts.settle()
			began := time.Now()
			cuts.table.Store(deny)
			if n := cuts.Sweep(); n != 1 {
				t.Errorf("%d cut", n)
			}
			wantReset(t, c)
			if d := time.Since(began); d > dialTimeout/2 {
				t.Errorf("ended after %v", d)
			}
			if f := cuts.lastFlow(1); f.End != policy.ReasonChanged {
				t.Errorf("ended with %q", f.End)
			}
			if name == "local" {
				_ = c.Close()
				eventually(t, "descriptors to go back", func() bool { return descriptors(t) <= before })
			}
			a.with(func() {
				if want := []Result{Ended}; name == "local" && !slices.Equal(a.results, want) {
					t.Errorf("reported %v", a.results)
				}
			})
		})
	}
}

// TestConnect: whenever and however connect() ends, whoever waits for it is told once,
// and the socket is closed unless it is used.
func TestConnect(t *testing.T) {
	arrive := func(w *world, c *fakeConn) { c.connecting, c.edge = false, true; w.loop.turn() }
	for name, tc := range map[string]struct {
		set  func(w *world, c *fakeConn)
		want bool // a connection
	}{
		"at once":               {func(_ *world, c *fakeConn) { c.connecting = false }, true},
		"later":                 {func(*world, *fakeConn) {}, true},
		"refused":               {func(_ *world, c *fakeConn) { c.reset, c.err = true, true }, false},
		"never":                 {func(w *world, _ *fakeConn) { w.loop.turn(); w.loop.expire() }, false},
		"stopped before":        {func(w *world, _ *fakeConn) { w.stop(); w.loop.turn() }, false},
		"stopped meanwhile":     {func(w *world, _ *fakeConn) { w.loop.turn(); w.stop(); w.loop.turn() }, false},
		"never, in turn, twice": {func(w *world, _ *fakeConn) { w.loop.turn(); w.loop.expire(); w.loop.expire() }, false},
	} {
		w := (&bench{lane.NewLoop(nil)}).world()
		c := w.socket()
		c.connecting = true
		told, got := 0, false
		w.loop.Do(func() {
			w.s.connect(&program{conn: c, thread: w.s.thread, readable: true}, time.Second, func(p *program, err error) {
				told, got = told+1, err == nil
				if err == nil {
					p.close()
				}
			})
		})
		tc.set(w, c)
		w.loop.turn()
		arrive(w, c)
		w.loop.expire()
		w.loop.turn()
		if told != 1 || got != tc.want || c.ended == "" || w.faults.first != "" {
			t.Errorf("%s: told %d times, connected: %t, socket: %q, %s", name, told, got, c.ended, w.faults.first)
		}
	}
}

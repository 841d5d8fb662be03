// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// announcements counts the calls of Listening's function.
func (h *host) announcements() chan time.Time {
	calls := make(chan time.Time, 1024)
	ctx, stop := context.WithCancel(h.t.Context())
	ended := make(chan error)
	go func() { ended <- h.Listening(ctx, func() { calls <- time.Now() }) }()
	h.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
	})
	return calls
}

// calls waits for both calls that follow one announcement, and returns how long
// after since the first one came.
func (h *host) calls(what string, calls chan time.Time, since time.Time) time.Duration {
	h.t.Helper()
	var first time.Time
	for n := range 2 {
		select {
		case at := <-calls:
			if n == 0 {
				first = at
			}
		case <-time.After(5 * time.Second):
			h.t.Fatalf("%s: announced %d times, want 2", what, n)
		}
	}
	return first.Sub(since)
}

// quiet checks that nothing was announced up to now: the announcement of a
// listener that is begun here comes after everything before it.
func (h *host) quiet(what string, calls chan time.Time) {
	h.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:15433")
	h.ok(err)
	h.calls("a listener that begins", calls, time.Now())
	h.ok(ln.Close())
	h.calls("a listener that ends", calls, time.Now())
	select {
	case <-calls:
		h.t.Errorf("%s: it was announced", what)
	default:
	}
}

// TestListening: a listener on a guarded port is announced when it begins and when
// it ends, however it does; nothing else is, and none of it counts as a refusal.
func TestListening(t *testing.T) {
	h := newHost(t)
	h.ok(h.Guards().Put(port15432, Guard{Service: db, Anyone: true}))
	h.ok(h.Guards().Put(15433, Guard{Service: other, Anyone: true}))
	calls := h.announcements()
	before, err := h.Counters()
	h.ok(err)
	for _, c := range []struct {
		name, verb, addr string
		end              func(*exec.Cmd)
	}{
		{"closed", "serve", "127.0.0.1:15432", nil},
		{"IPv6", "serve", "[::1]:15432", nil},
		{"both families", "serve", ":15432", nil},
		{"MPTCP, as of Go programs", "serve-mptcp", "127.0.0.1:15432", nil},
		{"killed", "serve", "127.0.0.1:15432", func(c *exec.Cmd) { h.ok(c.Process.Signal(unix.SIGKILL)) }},
		{"killed, MPTCP", "serve-mptcp", "[::]:15432", func(c *exec.Cmd) { h.ok(c.Process.Signal(unix.SIGKILL)) }},
	} {
		began := time.Now()
		cmd, line, in := h.server("db", c.verb, c.addr)
		if line != "ready\n" {
			t.Fatal(line)
		}
		h.calls(c.name+": begin", calls, began)
		began = time.Now()
		if c.end != nil {
			c.end(cmd)
		} else {
			h.ok(in.Close())
		}
		t.Logf("%s: the end was announced after %s", c.name, h.calls(c.name+": end", calls, began).Round(time.Microsecond))
		_ = cmd.Wait()
	}
	h.serve(other, 15434, Port{Local: netip.MustParseAddrPort("127.0.0.1:15434")}) // its port is not guarded
	_, stop := h.serving("db", "127.0.0.1:15434")
	stop()
	h.quiet("a port of no service", calls)
	_, stop = h.serving("db", "127.0.0.1:15432")
	h.calls("begin", calls, time.Now())
	if out := h.do("nobody", "connect", "127.0.0.1:15432"); out != refused {
		t.Errorf("nobody may call db: %s", out)
	}
	h.quiet("connections of a listener", calls)
	stop()
	h.calls("end", calls, time.Now())
	after, err := h.Counters()
	h.ok(err)
	before[Identity].Given++ // nobody's call
	if before != after {
		t.Errorf("counters are %v, want %v", after, before)
	}
}

// TestListeningFlood: a program that opens and closes listeners without end causes
// few calls, each change is followed by a call, and no report of a refusal is lost.
func TestListeningFlood(t *testing.T) {
	h := newHost(t)
	h.proxy()
	h.ok(h.Guards().Put(port15432, Guard{Service: db, Anyone: true}))
	calls := h.announcements()
	began := time.Now()
	const rounds = 20000
	for range rounds {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		h.ok(err)
		h.ok(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		h.ok(unix.Bind(fd, &unix.SockaddrInet4{Port: 15432, Addr: [4]byte{127, 0, 0, 1}}))
		h.ok(unix.Listen(fd, 1))
		h.ok(unix.Close(fd))
	}
	ended := time.Now()
	if out := h.do("nobody", "connect", "127.0.0.1:15432"); out != refused {
		t.Error(out)
	}
	h.lastEvent(Identity)
	n, last := 0, time.Time{}
	for last.Before(ended.Add(settleTime / 2)) {
		select {
		case last = <-calls:
			n++
		case <-time.After(5 * time.Second):
			t.Fatalf("no call after the last change; %d before", n)
		}
	}
	took := ended.Sub(began)
	t.Logf("%d changes in %s: %d calls", 2*rounds, took.Round(time.Millisecond), n)
	if most := 2*int(took/settleTime) + 4; n > most {
		t.Errorf("%d calls in %s, want at most %d", n, took, most)
	}
}

// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const port15432 = 15432

// serving starts a server in a cgroup and returns the first line that it prints.
func (h *host) serving(cgroup, addr string) (line string, stop func()) {
	h.t.Helper()
	cmd := h.command(cgroup, "serve", addr)
	in, err := cmd.StdinPipe()
	h.ok(err)
	out, err := cmd.StdoutPipe()
	h.ok(err)
	h.ok(cmd.Start())
	line, err = bufio.NewReader(out).ReadString('\n')
	h.ok(err)
	return line, func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
}

// holding starts a client that keeps a connection open. The channel is closed when
// the connection ends.
func (h *host) holding(cgroup, target string) (ended chan struct{}) {
	h.t.Helper()
	cmd := h.command(cgroup, "hold", target)
	out, err := cmd.StdoutPipe()
	h.ok(err)
	h.ok(cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ok "+target+"\n" {
		h.t.Fatalf("%s to %s: %q, %v", cgroup, target, line, err)
	}
	ended = make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	h.t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	return ended
}

// TestListener: no other program can bind the port of a service that listens on it,
// and a program that bound it before isn't called.
func TestListener(t *testing.T) {
	h := newHost(t)
	h.proxy()
	local := netip.MustParseAddrPort("127.0.0.1:15432")
	h.serve(db, 5432, Port{Local: local})
	h.allow(Pair{web, db})
	h.ok(h.Workloads().Put(h.dir("other"), other))
	line, stop := h.serving("other", "127.0.0.1:15432")
	if line != "ready\n" {
		t.Fatal(line)
	}
	h.ok(h.Guards().Put(port15432, Guard{Service: db}))
	for _, target := range []string{db4, "127.0.0.1:15432"} {
		if out := h.do("web", "connect", target); out != refused {
			t.Errorf("another program at %s was called: %s", target, out)
		}
		h.lastEvent(Listener)
	}
	stop()
	for _, at := range []string{"127.0.0.1:15432", "0.0.0.0:15432", "[::]:15432", "[::1]:15432"} {
		line, stop := h.serving("db", at)
		if line != "ready\n" {
			t.Errorf("db can't bind its own port: %s", line)
		}
		if at != "[::1]:15432" {
			for _, target := range []string{db4, mapped, "127.0.0.1:15432"} {
				if out := h.do("web", "connect", target); out != "ok "+target {
					t.Errorf("db at %s: %s: %s", at, target, out)
				}
			}
		}
		for _, beside := range []string{"127.0.0.1:15432", "127.0.0.2:15432", "0.0.0.0:15432", "[::]:15432", "[::1]:15432"} {
			for _, cgroup := range []string{"other", "nobody"} {
				line, stop := h.serving(cgroup, beside)
				stop()
				if !strings.Contains(line, "permission denied") {
					t.Errorf("%s beside db at %s bound %s: %s", cgroup, at, beside, line)
				}
				h.lastEvent(Listener)
			}
		}
		stop()
	}
	line, stop = h.serving("anew", "127.0.0.1:15432") // a new cgroup of db that isn't enrolled yet
	defer stop()
	if line != "ready\n" {
		t.Errorf("nobody listens, but the port can't be bound: %s", line)
	}
	if out := h.do("web", "connect", db4); out != refused {
		t.Errorf("not enrolled yet: %s", out)
	}
	h.ok(h.Workloads().Put(h.dir("anew"), db))
	_, err := h.Sweep(t.Context())
	h.ok(err)
	if out := h.do("web", "connect", db4); out != "ok "+db4 {
		t.Errorf("enrolled: %s", out)
	}
}

// TestOlder: the sweep judges connections that are older than the guard of their
// port, and marks a listener that is older than the enrolment of its workload.
func TestOlder(t *testing.T) {
	h := newHost(t)
	h.proxy()
	there := h.elsewhere()
	_, stop := h.serving("late", "0.0.0.0:15432")
	defer stop()
	cut := []chan struct{}{h.holding("nobody", "127.0.0.1:15432"), h.holding("nobody", "10.7.0.1:15432")}
	kept := []chan struct{}{h.holding("web", "127.0.0.1:15432"), h.holding("late", "127.0.0.1:15432")}
	there(func() { cut = append(cut, h.holding("nobody", "10.7.0.1:15432")) })
	h.ok(h.Workloads().Put(h.dir("late"), db))
	h.ok(h.Guards().Put(port15432, Guard{Service: db, Serving: true}))
	h.allow(Pair{web, db})
	if n, err := h.Sweep(t.Context()); err != nil || n != len(cut) {
		t.Errorf("cut %d, %v; want %d", n, err, len(cut))
	}
	for i, ended := range cut {
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Errorf("connection %d lives on", i)
		}
	}
	for i, ended := range kept {
		select {
		case <-ended:
			t.Errorf("connection %d was cut", i)
		default:
		}
	}
	h.ok(h.Intentions().Put(Pair{web, db}, false))
	if n, err := h.Sweep(t.Context()); err != nil || n != 1 {
		t.Errorf("denied: cut %d, %v; want the one that was plain", n, err)
	}
	h.allow(Pair{web, db})
	h.serve(db, 5432, Port{Local: netip.MustParseAddrPort("127.0.0.1:15432")})
	if out := h.do("web", "connect", db4); out != "ok "+db4 {
		t.Errorf("to a listener older than its workload: %s", out)
	}
}

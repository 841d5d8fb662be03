// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"io"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const port15432 = 15432

// serving starts a server in a cgroup and returns the first line that it prints.
func (h *host) serving(cgroup, addr string) (line string, stop func()) {
	h.t.Helper()
	cmd, line, in := h.server(cgroup, "serve", addr)
	return line, func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
}

// server starts a server by a verb of the helper. It ends when in is closed.
func (h *host) server(cgroup, verb, addr string) (cmd *exec.Cmd, line string, in io.Closer) {
	h.t.Helper()
	cmd = h.command(cgroup, verb, addr)
	in, err := cmd.StdinPipe()
	h.ok(err)
	out, err := cmd.StdoutPipe()
	h.ok(err)
	h.ok(cmd.Start())
	line, err = bufio.NewReader(out).ReadString('\n')
	h.ok(err)
	return cmd, line, in
}

// holding starts a client that keeps a connection open. The channel is closed when
// the connection ends.
func (h *host) holding(cgroup string, words ...string) (ended chan struct{}) {
	h.t.Helper()
	cmd, target := h.command(cgroup, append([]string{"hold"}, words...)...), words[len(words)-1]
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
	cut := []chan struct{}{h.holding("nobody", "connect", "127.0.0.1:15432"), h.holding("nobody", "connect", "10.7.0.1:15432")}
	kept := []chan struct{}{h.holding("web", "connect", "127.0.0.1:15432"), h.holding("late", "connect", "127.0.0.1:15432")}
	there(func() { cut = append(cut, h.holding("nobody", "connect", "10.7.0.1:15432")) })
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

// TestNoInstance: with no healthy instance connect() is refused for that reason, at
// virtual and at real addresses, whatever other ports the service has. A program that
// has just begun to listen may call itself.
func TestNoInstance(t *testing.T) {
	h := newHost(t)
	h.proxy()
	const direct = "127.0.0.1:15432"
	local := netip.MustParseAddrPort(direct)
	h.allow(Pair{web, db})
	h.ok(h.Guards().Put(port15432, Guard{Service: db}))
	_, stop := h.serving("db", direct)
	for _, c := range []struct {
		name            string
		known           bool
		port            Port // of 15432; 5432 leads to it, too
		ended           bool // the program has
		virtual, direct string
	}{
		{"not published yet", false, Port{}, false, refused, "ok " + direct},
		{"can't serve", true, Port{}, false, refused, refused},
		{"can serve", true, Port{Local: local}, false, "ok " + db4, "ok " + direct},
		{"can serve elsewhere, too", true, Port{Local: local, Remote: true}, false, "ok " + db4, "ok " + direct},
		{"can serve elsewhere only", true, Port{Remote: true}, false, "ok " + db4, refused},
		{"has just ended here, and serves elsewhere", true, Port{Local: local, Remote: true}, true, "ok " + db4, refused},
		{"has ended", true, Port{}, true, refused, refused},
		{"has ended, not published", false, Port{}, true, refused, refused},
	} {
		if c.ended {
			stop()
		}
		for _, port := range []uint16{0, 5432, port15432} {
			_ = h.Ports().Delete(PortKey{Service: db, Port: port})
			if c.known && port != 0 {
				h.serve(db, port, c.port)
			}
		}
		before, err := h.Counters()
		h.ok(err)
		if out := h.do("web", "connect", db4); out != c.virtual {
			t.Errorf("%s, virtual address: %s, want %s", c.name, out, c.virtual)
		}
		if out := h.do("web", "connect", direct); out != c.direct {
			t.Errorf("%s, real address: %s, want %s", c.name, out, c.direct)
		}
		after, err := h.Counters()
		h.ok(err)
		want := uint64(0)
		for _, out := range []string{c.virtual, c.direct} {
			if out == refused {
				want++
			}
		}
		if c.ended && c.port.Local.IsValid() {
			want-- // the map isn't up to date: the kernel itself refuses
		}
		if n := after[NoInstance].Given - before[NoInstance].Given; n != want {
			t.Errorf("%s: %d refusals for want of an instance, want %d", c.name, n, want)
		}
		if out := h.do("db", "connect", direct); !c.ended && out != "ok "+direct {
			t.Errorf("%s: db can't call itself: %s", c.name, out)
		}
	}
}

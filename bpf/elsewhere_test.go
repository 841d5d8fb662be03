// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// elsewhere makes a second network namespace with the address 10.7.0.2, linked to
// 10.7.0.1 here. The returned function runs f on a thread in it.
func (h *host) elsewhere() func(f func()) {
	h.t.Helper()
	work, tid := make(chan func()), make(chan int)
	go func() {
		runtime.LockOSThread() // the thread and its namespace go when the goroutine ends
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			tid <- 0
			return
		}
		tid <- unix.Gettid()
		for f := range work {
			f()
		}
	}()
	do := func(f func()) {
		done := make(chan struct{})
		work <- func() { defer close(done); f() }
		<-done
	}
	id := <-tid
	if id == 0 {
		h.t.Fatal("no second namespace")
	}
	h.t.Cleanup(func() { close(work) })
	run(h.t, fmt.Sprintf("ip link add out type veth peer name in netns %d", id), "ip addr add 10.7.0.1/24 dev out", "ip link set out up")
	do(func() {
		run(h.t, "ip link set lo up", "ip addr add 10.7.0.2/24 dev in", "ip link set in up", "ip route add default via 10.7.0.1")
	})
	return do
}

// TestGuard: the port of a strict service refuses plain connections from the network.
func TestGuard(t *testing.T) {
	h := newHost(t)
	h.proxy()
	there := h.elsewhere()
	ln := h.listen("0.0.0.0:15432")
	h.listen("0.0.0.0:15433")
	expect := func(target, want string) {
		t.Helper()
		there(func() {
			if out := h.do("nobody", "connect", target); out != want {
				t.Errorf("%s: %s, want %s", target, out, want)
			}
		})
	}
	expect("10.7.0.1:15432", "ok 10.7.0.1:15432")
	accept(t, ln)
	h.ok(h.Guards().Put(15432, Guard{Service: db}))
	expect("10.7.0.1:15432", refused)
	if e := h.lastEvent(Guarded); e.Pair.Destination != db || e.PID != 0 || e.Comm != "" {
		t.Errorf("event %+v: a packet's arrival has no process", e)
	}
	expect("10.7.0.1:15433", "ok 10.7.0.1:15433")
	h.ok(h.Guards().Put(15432, Guard{Service: db, Permissive: true}))
	expect("10.7.0.1:15432", "ok 10.7.0.1:15432")
}

// TestAnotherNamespace: calls from another network namespace are judged by the same
// rules and never rewritten to loopback, which is that namespace's own.
func TestAnotherNamespace(t *testing.T) {
	h := newHost(t)
	proxy, _ := h.proxy()
	there := h.elsewhere()
	h.serve(db, 5432, Port{Local: netip.MustParseAddrPort("127.0.0.1:15432")})
	h.ok(h.Remotes().Put(netip.MustParseAddrPort("10.9.9.9:5432"), db))
	h.ok(h.Upstreams().Put(UpstreamKey{web, netip.MustParseAddrPort("127.0.0.1:12000")}, Upstream{db, 5432}))
	h.ok(h.Guards().Put(15432, Guard{Service: db}))
	h.ok(h.SetResolvers([]Resolver{{Addr: netip.MustParseAddr("10.9.9.9"), Port4: 15353}}))
	there(func() {
		if out := h.do("web", "connect", db4); out != refused {
			t.Errorf("denied: %s", out)
		}
		h.lastEvent(Default)
		h.allow(Pair{web, db})
		impostor := h.listen("127.0.0.1:15432") // on the loopback of that namespace
		for target, want := range map[string]string{
			"127.0.0.1:15432": "ok 127.0.0.1:15432", // not of the mesh: its own loopback
			"10.9.9.9:5432":   refused,              // would leave the host in clear
			"127.0.0.1:12000": refused,              // no listener there
		} {
			if out := h.do("web", "connect", target); out != want {
				t.Errorf("%s: %s, want %s", target, out, want)
			}
		}
		accept(t, impostor)
		h.lastEvent(Guarded)
	})
	// Allowed, to a virtual address: the SYN leaves by veth unchanged, and its
	// origin is found on arrival. It never reaches the impostor.
	there(func() {
		if out := h.do("web", "connect", db4); out != "ok "+db4 {
			t.Errorf("allowed: %s", out)
		}
	})
	conn := accept(t, proxy)
	if p, err := h.Origin(fd(t, conn)); err != nil || p != (Pair{web, db}) || conn.LocalAddr().String() != db4 {
		t.Errorf("arrived as %s, origin %v, %v", conn.LocalAddr(), p, err)
	}
	h.ok(proxy.Close())
	there(func() {
		if out := h.do("web", "connect", db4); out != refused {
			t.Errorf("without the daemon: %s", out)
		}
	})
}

// TestKernelsAnswersStay: what the kernel itself answers to a virtual address, such
// as a reset, doesn't leave the host even where a route leads out. No socket of a
// program sends these packets, so no egress filter of a cgroup sees them.
func TestKernelsAnswersStay(t *testing.T) {
	h := newHost(t)
	there := h.elsewhere()
	run(t, "ip addr add fd00:7::1/64 dev out nodad",
		"ip route del local 240.64.0.0/12 dev lo table local", "ip route add 240.64.0.0/12 via 10.7.0.2",
		"ip -6 route del local fd7a:ac17::/32 dev lo table local", "ip -6 route add fd7a:ac17::/32 via fd00:7::2")
	for _, c := range []struct{ own, from, flag, to string }{
		{"10.7.0.2", "240.64.0.2", "", "10.7.0.1:9"},
		{"fd00:7::2", "fd7a:ac17::2", "nodad", "[fd00:7::1]:9"},
	} {
		there(func() {
			run(t, "ip addr replace fd00:7::2/64 dev in nodad", "ip addr replace "+c.from+" dev in "+c.flag)
			if err := connectFrom(c.own, c.to, 5*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("from %s: %v, want a reset", c.own, err)
			}
			if err := connectFrom(c.from, c.to, 300*time.Millisecond); !os.IsTimeout(err) {
				t.Errorf("from %s: %v, want no answer", c.from, err)
			}
		})
		if e := h.lastEvent(Device); e.Target.Addr().String() != c.from {
			t.Errorf("event %+v, want one for %s", e, c.from)
		}
	}
}

// TestTimeWaitStays: the ACK of a connection in TIME_WAIT doesn't leave the host
// either, after somebody removed the routes. (IPv4 has no route from 127.0.0.1.)
func TestTimeWaitStays(t *testing.T) {
	h := newHost(t)
	h.elsewhere()
	_, proxy := h.proxy()
	h.serve(db, 5432, Port{Remote: true})
	h.allow(Pair{web, db})
	if out := h.do("web", "connect", db6); out != "ok "+db6 { // and closes
		t.Fatal(out)
	}
	conn := accept(t, proxy)
	run(t, "ip addr add fd00:7::1/64 dev out nodad",
		"ip -6 route del local fd7a:ac17::/32 dev lo table local", "ip -6 route add fd7a:ac17::/32 via fd00:7::2")
	h.ok(conn.Close())
	if e := h.lastEvent(Device); e.Target.Addr() != netip.MustParseAddrPort(db6).Addr() || e.Pair.Source != 0 {
		t.Errorf("event %+v, want one for %s and of no program", e, db6)
	}
}

func connectFrom(from, to string, limit time.Duration) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: limit}
	conn, err := d.Dial("tcp", to)
	if err == nil {
		return conn.Close()
	}
	return err
}

// TestForward: a host that forwards drops packets for virtual addresses, even where
// a route leads them to another host, and forwards all others.
func TestForward(t *testing.T) {
	h := newHost(t)
	there := h.elsewhere()
	run(t, "ip link add far type veth peer name near", "sysctl -qw net.ipv6.conf.far.disable_ipv6=1",
		"ip addr add 10.8.0.1/24 dev far", "ip link set far up", "ip link set near up",
		"ip route del local 240.64.0.0/12 dev lo table local", "ip route add 240.64.0.0/12 dev far",
		"ip neigh add 240.64.0.2 lladdr 02:00:00:00:00:01 dev far", "ip neigh add 10.8.0.2 lladdr 02:00:00:00:00:01 dev far",
		"sysctl -qw net.ipv4.ip_forward=1")
	sent := func() string {
		text, err := os.ReadFile("/proc/thread-self/net/dev")
		h.ok(err)
		_, far, _ := strings.Cut(string(text), "far:")
		return strings.Fields(far)[9] // packets sent
	}
	there(func() {
		for _, to := range []string{"240.64.0.2", "10.8.0.2"} {
			h.do("..", "ask", to+":9", "x") // outside of the hooked cgroup
		}
	})
	eventually(t, "the second packet is forwarded", func() bool { return sent() != "0" })
	if e := h.lastEvent(Diverted); e.Target.Addr().String() != "240.64.0.2" || sent() != "1" {
		t.Errorf("event %+v, %s packets sent on", e, sent())
	}
}

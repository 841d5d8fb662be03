// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const web4 = "240.64.0.1"

// helpBind binds a socket to an address, without taking a port for it alone.
func helpBind(fd int, source string) error {
	err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1), unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1))
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, sockaddr(source)); err != nil {
		return errors.New("bind: " + unix.ErrnoName(err.(unix.Errno)))
	}
	return nil
}

// seenHost is a host with db's listener, which is guarded, and an instance of db.
func seenHost(t *testing.T, at string, flags Guard) (h *host, ln, v4, v6 *net.TCPListener) {
	h = newHost(t)
	v4, v6 = h.proxy()
	ln = h.listen(at)
	local := Port{Local: netip.MustParseAddrPort("127.0.0.1:15432"), Anyone: true, Loopback: flags.Loopback}
	if flags.Carried {
		local = Port{Remote: true}
	}
	h.serve(db, 5432, local)
	h.ok(h.Ports().Put(PortKey{Service: db, Port: 15432}, local))
	flags.Service, flags.Anyone, flags.Serving = db, true, true
	h.ok(h.Guards().Put(15432, flags))
	h.allow(Pair{web, db})
	return h, ln, v4, v6
}

// TestSeen: the program sees the virtual address of a caller on its node. What can't
// reach it arrives at the daemon. TestSameNode has all kinds of listeners.
func TestSeen(t *testing.T) {
	const program, daemon4, daemon6 = "the program", "the daemon, IPv4", "the daemon, IPv6"
	for _, c := range []struct {
		name, listener string
		flags          Guard
		cgroup         string
		words          []string
		arrives, peer  string
	}{
		{"IPv4", "127.0.0.1:15432", Guard{}, "web", []string{"connect", db4}, program, web4},
		{"IPv6 socket, IPv4 address", "127.0.0.1:15432", Guard{}, "web", []string{"connect", mapped}, program, web4},
		{"IPv6 address, IPv4 listener", "127.0.0.1:15432", Guard{}, "web", []string{"connect", db6}, program, web4},
		{"IPv6 address, dual-stack listener", "[::]:15432", Guard{}, "web", []string{"connect", db6}, program, web4},
		{"the program's own address", "127.0.0.1:15432", Guard{}, "web", []string{"connect", "127.0.0.1:15432"}, program, web4},
		{"0.0.0.0", "127.0.0.1:15432", Guard{}, "web", []string{"connect", "0.0.0.0:15432"}, program, web4},
		{"::1 of a dual-stack listener", "[::]:15432", Guard{}, "web", []string{"connect", "[::1]:15432"}, program, web4},
		{"MPTCP", "127.0.0.1:15432", Guard{}, "web", []string{"mptcp", "127.0.0.1:15432"}, program, web4},
		{"bound to an address", "127.0.0.1:15432", Guard{}, "web", []string{"from", "127.0.0.1:0", db4}, daemon4, "127.0.0.1"},
		{"bound to a port", "127.0.0.1:15432", Guard{}, "web", []string{"from", "0.0.0.0:4000", db4}, daemon4, "127.0.0.1"},
		{"bound, to the program's own address", "127.0.0.1:15432", Guard{}, "web", []string{"from", "127.0.0.1:0", "127.0.0.1:15432"}, daemon4, "127.0.0.1"},
		{"bound to an IPv6 address", "[::]:15432", Guard{}, "web", []string{"from", "[::1]:0", "[::1]:15432"}, program, web4},
		{"IPv6 only", "[::]:15432", Guard{}, "web", []string{"v6only", "[::1]:15432"}, program, web4},
		{"a service itself", "127.0.0.1:15432", Guard{}, "db", []string{"connect", "127.0.0.1:15432"}, program, "127.0.0.1"},
		{"loopback", "127.0.0.1:15432", Guard{Loopback: true}, "web", []string{"connect", db4}, program, "127.0.0.1"},
		{"loopback, the program's own address", "127.0.0.1:15432", Guard{Loopback: true}, "web", []string{"connect", "127.0.0.1:15432"}, program, "127.0.0.1"},
		{"bound to an IPv6 address, IPv4 listener", "127.0.0.1:15432", Guard{}, "web", []string{"from", "[::1]:0", db6}, daemon6, "::1"},
		{"loopback, bound", "127.0.0.1:15432", Guard{Loopback: true}, "web", []string{"from", "127.0.0.9:0", db4}, program, "127.0.0.9"},
		{"carried", "127.0.0.1:15432", Guard{Carried: true}, "web", []string{"connect", db4}, daemon4, "127.0.0.1"},
		{"carried, the program's own address", "127.0.0.1:15432", Guard{Carried: true}, "web", []string{"connect", "127.0.0.1:15432"}, daemon4, "127.0.0.1"},
		{"plain, permissive", "127.0.0.1:15432", Guard{Permissive: true}, "nobody", []string{"connect", "127.0.0.1:15432"}, program, "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, ln, v4, v6 := seenHost(t, c.listener, c.flags)
			target := c.words[len(c.words)-1]
			want := "ok " + strings.Replace(target, "0.0.0.0", "127.0.0.1", 1)
			if out := h.do(c.cgroup, c.words...); out != want {
				t.Fatalf("the caller's peer: %s, want %s", out, want)
			}
			conn := accept(t, map[string]*net.TCPListener{program: ln, daemon4: v4, daemon6: v6}[c.arrives])
			if got := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().String(); got != c.peer {
				t.Errorf("%s saw %s, want %s", c.arrives, got, c.peer)
			}
		})
	}
}

// TestUnserved: whatever the program shall see, a call is refused for want of an
// instance, or goes to the daemon for one elsewhere.
func TestUnserved(t *testing.T) {
	const direct = "127.0.0.1:15432"
	local := netip.MustParseAddrPort(direct)
	for _, c := range []struct {
		name  string
		flags Guard
		port  Port
		ended bool // the program has
		words []string
		want  string // of connect(); "daemon": it succeeds, and the daemon gets it
	}{
		{"can't serve", Guard{}, Port{}, false, []string{"connect", direct}, refused},
		{"can't serve, bound", Guard{}, Port{}, false, []string{"from", "127.0.0.1:0", direct}, refused},
		{"can't serve, loopback", Guard{Loopback: true}, Port{}, false, []string{"connect", direct}, refused},
		{"can't serve, carried", Guard{Carried: true}, Port{}, false, []string{"connect", direct}, refused},
		{"can't serve, carried, virtual address", Guard{Carried: true}, Port{}, false, []string{"connect", db4}, refused},
		{"elsewhere only", Guard{}, Port{Remote: true}, false, []string{"connect", direct}, refused},
		{"elsewhere only, bound", Guard{}, Port{Remote: true}, false, []string{"from", "127.0.0.1:0", direct}, refused},
		{"has just ended, and serves elsewhere", Guard{}, Port{Local: local, Remote: true}, true, []string{"connect", db4}, "daemon"},
		{"has just ended, and serves elsewhere, loopback", Guard{Loopback: true}, Port{Local: local, Remote: true, Loopback: true}, true, []string{"connect", db4}, "daemon"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, ln, v4, _ := seenHost(t, direct, c.flags)
			if c.ended {
				h.ok(ln.Close())
			}
			for _, port := range []uint16{5432, 15432} {
				h.ok(h.Ports().Put(PortKey{Service: db, Port: port}, c.port))
			}
			want := c.want
			if want == "daemon" {
				want = "ok " + c.words[len(c.words)-1]
			}
			if out := h.do("web", c.words...); out != want {
				t.Fatalf("%s, want %s", out, want)
			}
			if c.want == refused {
				if e := h.lastEvent(NoInstance); e.Pair != (Pair{web, db}) {
					t.Errorf("event %+v", e)
				}
				return
			}
			if peer := accept(t, v4).RemoteAddr().(*net.TCPAddr).IP.String(); peer != "127.0.0.1" {
				t.Errorf("the daemon saw %s: the socket is bound", peer)
			}
		})
	}
}

// TestCheck: a health check reaches an instance that can't serve, from loopback and by
// the program's own address only; another creator's listener it doesn't reach.
func TestCheck(t *testing.T) {
	const direct = "127.0.0.1:15432"
	number := uint32(1)<<(32-testRange4.Bits()) - 1 - Checks
	for _, flags := range []Guard{{}, {Carried: true}, {Loopback: true}} {
		h, ln, _, _ := seenHost(t, direct, flags)
		h.ok(h.Workloads().Put(h.dir("checks"), number))
		for _, port := range []uint16{5432, 15432} {
			h.ok(h.Ports().Put(PortKey{Service: db, Port: port}, Port{}))
		}
		if out := h.do("checks", "connect", direct); out != refused {
			t.Errorf("%+v, without a rule: %s", flags, out)
		}
		h.allow(Pair{number, db})
		if out := h.do("checks", "connect", db4); out != refused {
			t.Errorf("%+v, virtual address: %s", flags, out)
		}
		if out := h.do("checks", "connect", direct); out != "ok "+direct {
			t.Fatalf("%+v: %s", flags, out)
		}
		if peer := accept(t, ln).RemoteAddr().(*net.TCPAddr).IP.String(); peer != "127.0.0.1" {
			t.Errorf("%+v: the program saw %s", flags, peer)
		}
		flags.Service, flags.Serving = db, true
		h.ok(h.Guards().Put(15432, flags)) // the listener is the test's own
		if out := h.do("checks", "connect", direct); out != refused {
			t.Errorf("%+v, another program listens: %s", flags, out)
		}
	}
}

// TestVirtualSource: only the daemon binds virtual addresses.
func TestVirtualSource(t *testing.T) {
	h, _, _, _ := seenHost(t, "127.0.0.1:15432", Guard{Permissive: true})
	for _, cgroup := range []string{"web", "db", "nobody"} {
		for _, source := range []string{"240.64.0.1:0", "240.64.0.9:0", "[::ffff:240.64.0.1]:0", "[fd7a:ac17::1]:0"} {
			if out := h.do(cgroup, "from", source, "127.0.0.1:15432"); out != "bind: EACCES" {
				t.Errorf("%s from %s: %s", cgroup, source, out)
			}
		}
	}
	if e := h.lastEvent(Listener); e.Pair.Destination != web || e.PID == 0 {
		t.Errorf("event %+v", e)
	}
	plain := h.listen("[::1]:0").Addr().String()
	if out := h.do("daemon", "from", "[fd7a:ac17::1]:0", plain); out != "ok "+plain {
		t.Errorf("the daemon: %s", out)
	}
}

// TestUnseen: a socket that connects again, to a program outside of the mesh, has
// no virtual address any more.
func TestUnseen(t *testing.T) {
	h, ln, _, _ := seenHost(t, "127.0.0.1:15432", Guard{})
	h.ok(ln.Close())
	for _, c := range []struct{ first, second string }{
		{db4, "127.0.0.1:8888"}, {mapped, "[::ffff:127.0.0.1]:8888"}, {db6, "[::ffff:127.0.0.1]:8888"}, {"127.0.0.1:15432", "127.0.0.1:8888"},
	} {
		at := netip.MustParseAddrPort(c.second)
		plain := h.listen(netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String())
		if out := h.do("web", "again", c.first, c.second); out != "ok "+c.second {
			t.Errorf("%s, then %s: %s", c.first, c.second, out)
			continue
		}
		if peer := accept(t, plain).RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); peer != at.Addr().Unmap() {
			t.Errorf("%s, then %s: from %s", c.first, c.second, peer)
		}
		h.ok(plain.Close())
	}
}

// TestSweepSeen: the sweep leaves allowed connections from virtual addresses.
func TestSweepSeen(t *testing.T) {
	h, ln, _, _ := seenHost(t, "127.0.0.1:15432", Guard{})
	cmd := h.command("web", "hold", "connect", db4)
	h.ok(cmd.Start())
	conn := accept(t, ln)
	if n, err := h.Sweep(t.Context()); err != nil || n != 0 {
		t.Errorf("cut %d, %v; want none", n, err)
	}
	h.ok(h.Intentions().Put(Pair{web, db}, false))
	if n, err := h.Sweep(t.Context()); err != nil || n != 1 {
		t.Errorf("denied: cut %d, %v; want the caller's end", n, err)
	}
	_ = cmd.Wait()
	h.ok(conn.Close())
}

// TestGoneCaller: a program that writes to a caller whose socket is gone gets RST,
// not silence.
func TestGoneCaller(t *testing.T) {
	h, ln, _, _ := seenHost(t, "127.0.0.1:15432", Guard{})
	run(t, "sysctl -qw net.ipv4.tcp_fin_timeout=1")
	if out := h.do("web", "connect", db4); out != "ok "+db4 {
		t.Fatal(out)
	}
	conn := accept(t, ln)
	peer := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	eventually(t, "the caller's socket is gone", func() bool { return !connected(t, peer) })
	eventually(t, "the connection is reset", func() bool {
		_, err := conn.Write([]byte("late"))
		return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
	})
}

// connected returns whether the namespace has a TCP socket with that local end, in
// any state.
func connected(t *testing.T, local netip.AddrPort) bool {
	t.Helper()
	out, err := exec.Command("ss", "-Htan", "src", local.String()).Output()
	if err != nil {
		t.Fatal(err)
	}
	return len(out) > 0
}

// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	refused = "ECONNREFUSED"
	db4     = "240.64.0.2:5432"
	db6     = "[fd7a:ac17::2]:5432"
	mapped  = "[::ffff:240.64.0.2]:5432"
)

// TestRefusals: each refused call has its reason, in an event and in a counter.
func TestRefusals(t *testing.T) {
	h := newHost(t)
	h.proxy()
	h.serve(db, 5432, Port{Remote: true})
	h.serve(other, 80, Port{})
	deep := "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16"
	h.ok(h.Workloads().Put(h.dir(deep), web))
	h.ok(h.Remotes().Put(netip.MustParseAddrPort("10.9.9.9:5432"), db))
	h.allow(Pair{web, other}, Pair{web, 77})
	h.ok(h.Intentions().Put(Pair{db, other}, false))
	for _, c := range []struct {
		cgroup, target string
		reason         Reason
		source         uint32
	}{
		{"web", db4, Default, web},
		{"web", db6, Default, web},
		{"web", mapped, Default, web},
		{"web", "10.9.9.9:5432", Default, web},
		{"web", "[::ffff:10.9.9.9]:5432", Default, web},
		{"web/below", db4, Default, web},
		{deep, db4, Default, web},
		{deep + "/17", db4, Depth, 0},
		{"nobody", db4, Identity, 0},
		{"nobody", "10.9.9.9:5432", Identity, 0},
		{"db", "240.64.0.3:80", Intention, db},
		{"web", "240.64.0.3:81", NoPort, web},
		{"web", "240.64.0.3:80", NoInstance, web},
		{"web", "240.64.0.77:80", NoInstance, web},
		{"web", "240.64.0.0:80", NoInstance, web},
		{"web", "[fd7a:ac17:0:1::2]:5432", NoInstance, web},
	} {
		if out := h.do(c.cgroup, "connect", c.target); out != refused {
			t.Errorf("%s to %s: %s, want %s", c.cgroup, c.target, out, refused)
			continue
		}
		e := h.lastEvent(c.reason)
		if e.Pair.Source != c.source || e.PID == 0 || e.Comm == "" || time.Since(e.Time) > time.Minute {
			t.Errorf("%s to %s: event %+v", c.cgroup, c.target, e)
		}
		if want := netip.MustParseAddrPort(c.target); e.Target != netip.AddrPortFrom(want.Addr().Unmap(), want.Port()) {
			t.Errorf("event about %s, want %s", e.Target, want)
		}
	}
	if n, err := h.Counters(); err != nil || n[Default].Given != 7 {
		t.Errorf("counters %v, %v; want 7 for the default", n, err)
	}
}

// TestCapture: an allowed call reaches the daemon's listener. The accepted socket has
// the original destination as its local address, and the daemon learns the source.
func TestCapture(t *testing.T) {
	h := newHost(t)
	v4, v6 := h.proxy()
	h.serve(db, 5432, Port{Remote: true})
	h.ok(h.Remotes().Put(netip.MustParseAddrPort("10.9.9.9:5432"), db))
	h.ok(h.Upstreams().Put(UpstreamKey{web, netip.MustParseAddrPort("127.0.0.1:12000")}, Upstream{db, 5432}))
	h.allow(Pair{web, db})
	for _, c := range []struct {
		how, target, local string
		ln                 *net.TCPListener
	}{
		{"connect", db4, db4, v4},
		{"connect", db6, db6, v6},
		{"connect", mapped, db4, v4},
		{"connect", "10.9.9.9:5432", db4, v4},
		{"connect", "[::ffff:10.9.9.9]:5432", db4, v4},
		{"connect", "127.0.0.1:12000", db4, v4},
		{"connect", "[::ffff:127.0.0.1]:12000", db4, v4},
		{"mptcp", db4, db4, v4},
	} {
		if out := h.do("web", c.how, c.target); out != "ok "+c.target {
			t.Errorf("%s %s: %s", c.how, c.target, out)
			continue
		}
		conn := accept(t, c.ln) // the client has exited by now
		if conn.LocalAddr().String() != c.local {
			t.Errorf("%s arrived as %s, want %s", c.target, conn.LocalAddr(), c.local)
		}
		if p, err := h.Origin(fd(t, conn)); err != nil || p != (Pair{web, db}) {
			t.Errorf("%s: origin %v, %v", c.target, p, err)
		}
	}
	left := map[string]bool{}
	it := h.mesh.Origins.Iterate()
	for k, v := (meshOriginKey{}), (meshOrigin{}); it.Next(&k, &v); {
		left[fromEndpoint(k.Client).String()] = true
	}
	if len(left) > 0 {
		t.Errorf("origins left: %v", left)
	}
	if out := h.do("db", "connect", "127.0.0.1:12000"); out != refused {
		t.Errorf("another workload by web's upstream: %s", out)
	}
	if n, _ := h.Counters(); n[Allowed].Given != 8 {
		t.Errorf("%d allowed, want 8 (an unregistered loopback address is not counted)", n[Allowed])
	}
}

// TestWithoutDaemon: without its listener, calls that it would carry are refused.
// Its port refuses direct connections as long as it listens, and is free afterwards.
func TestWithoutDaemon(t *testing.T) {
	h := newHost(t)
	v4, v6 := h.proxy()
	h.serve(db, 5432, Port{Remote: true})
	h.allow(Pair{web, db})
	for _, ln := range []net.Listener{v4, v6} {
		if out := h.do("web", "connect", ln.Addr().String()); out != refused {
			t.Errorf("the daemon's own port: %s", out)
		}
	}
	h.ok(v4.Close())
	for _, target := range []string{db4, mapped} {
		if out := h.do("web", "connect", target); out != refused {
			t.Errorf("%s without a listener: %s", target, out)
		}
		h.lastEvent(NoDaemon)
	}
	taken := h.listen(v4.Addr().String()).Addr().String()
	if out := h.do("nobody", "connect", taken); out != "ok "+taken {
		t.Errorf("another program on the dead daemon's port: %s", out)
	}
	h.ok(v6.Close())
}

// TestLocal: a call to an instance on this node is connected directly where the
// socket allows it, and the port of the instance is guarded.
func TestLocal(t *testing.T) {
	h := newHost(t)
	_, v6 := h.proxy()
	ln := h.listen("127.0.0.1:15432")
	h.serve(db, 5432, Port{Local: netip.MustParseAddrPort("127.0.0.1:15432"), Anyone: true})
	h.ok(h.Guards().Put(15432, Guard{Service: db, Anyone: true}))
	h.allow(Pair{web, db})
	for _, c := range []struct{ how, cgroup, target, want string }{
		{"connect", "web", db4, "ok " + db4},
		{"connect", "web", mapped, "ok " + mapped},
		{"connect", "web", db6, "ok " + db6},
		{"connect", "web", "127.0.0.1:15432", "ok 127.0.0.1:15432"},
		{"connect", "web", "0.0.0.0:15432", "ok 127.0.0.1:15432"},
		{"connect", "db", "127.0.0.1:15432", "ok 127.0.0.1:15432"},
	} {
		if out := h.do(c.cgroup, c.how, c.target); out != c.want {
			t.Errorf("%s to %s: %s, want %s", c.cgroup, c.target, out, c.want)
			continue
		}
		accept(t, ln)
	}
	if out := h.do("web", "v6only", db6); out != "ok "+db6 {
		t.Errorf("a socket for IPv6 only: %s", out)
	} else {
		accept(t, v6)
	}
	for _, target := range []string{"127.0.0.1:15432", "127.9.9.9:15432", "[::1]:15432", "[::]:15432", "[::ffff:127.0.0.1]:15432", "0.0.0.0:15432"} {
		if out := h.do("nobody", "connect", target); out != refused {
			t.Errorf("nobody to %s: %s", target, out)
		}
	}
	h.ok(h.Guards().Put(15432, Guard{Service: db, Permissive: true}))
	if out := h.do("nobody", "connect", "127.0.0.1:15432"); out != "ok 127.0.0.1:15432" {
		t.Errorf("nobody to a permissive port: %s", out)
	}
}

// TestSweep: the sweep cuts the connections that are no longer allowed, and no others.
func TestSweep(t *testing.T) {
	h := newHost(t)
	h.proxy()
	ln := h.listen("127.0.0.1:15432")
	h.serve(db, 5432, Port{Local: netip.MustParseAddrPort("127.0.0.1:15432"), Anyone: true})
	h.ok(h.Guards().Put(15432, Guard{Service: db, Anyone: true}))
	h.allow(Pair{web, db})
	var held []*net.TCPConn
	ends := map[string]chan error{}
	for name, words := range map[string][]string{
		"virtual": {"web", "hold", "connect", db4}, "direct": {"web", "hold", "connect", "127.0.0.1:15432"}, "self": {"db", "hold", "connect", "127.0.0.1:15432"},
	} {
		cmd := h.command(words[0], words[1:]...)
		h.ok(cmd.Start())
		done := make(chan error, 1)
		ends[name] = done
		go func() { done <- cmd.Wait() }()
		held = append(held, accept(t, ln))
	}
	if n, err := h.Sweep(t.Context()); err != nil || n != 0 {
		t.Errorf("nothing changed: cut %d, %v", n, err)
	}
	h.ok(h.Intentions().Put(Pair{web, db}, false))
	if n, err := h.Sweep(t.Context()); err != nil || n != 2 {
		t.Errorf("cut %d, %v; want 2", n, err)
	}
	for _, name := range []string{"virtual", "direct"} {
		select {
		case <-ends[name]:
		case <-time.After(5 * time.Second):
			t.Errorf("%s lives on", name)
		}
	}
	select {
	case <-ends["self"]:
		t.Error("a service's call of itself was cut")
	default:
	}
	for _, c := range held {
		h.ok(c.Close())
	}
	<-ends["self"]
}

// TestCreator: a workload can't connect with a socket that another process created.
func TestCreator(t *testing.T) {
	h := newHost(t)
	h.proxy()
	h.serve(db, 5432, Port{Remote: true})
	h.allow(Pair{web, db})
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	h.ok(err) // created in the daemon's cgroup
	file := os.NewFile(uintptr(sock), "socket")
	defer file.Close()
	cmd := h.command("web", "inherit", db4)
	cmd.ExtraFiles = []*os.File{file}
	if out, _ := cmd.Output(); string(out) != refused+"\n" {
		t.Errorf("a socket from outside: %s", out)
	}
	h.lastEvent(Creator)
}

// TestTag: the daemon reaches a service's port only with the tag of an allowed
// source. No hook restricts it elsewhere.
func TestTag(t *testing.T) {
	h := newHost(t)
	guarded, free := h.listen("127.0.0.1:15432").Addr().String(), h.listen("127.0.0.1:0").Addr().String()
	h.ok(h.Guards().Put(15432, Guard{Service: db, Anyone: true}))
	h.allow(Pair{web, db})
	public := h.listen("127.0.0.1:15433").Addr().String()
	h.ok(h.Guards().Put(15433, Guard{Service: other, Anyone: true}))
	h.allow(Pair{Any, other})
	for _, c := range []struct {
		target              string
		source, destination uint32
		ingress             bool
		want                error
	}{
		{free, 0, 0, false, nil},
		{guarded, 0, 0, false, unix.ECONNREFUSED},
		{guarded, web, db, false, nil},
		{guarded, web, other, false, unix.ECONNREFUSED},
		{guarded, other, db, false, unix.ECONNREFUSED},
		{guarded, web, db, true, nil},
		{public, web, other, false, nil},
		{public, web, other, true, unix.ECONNREFUSED}, // no rule names it
	} {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		h.ok(err)
		if c.source != 0 {
			h.ok(h.Tag(fd, Tag{Pair: Pair{c.source, c.destination}, Ingress: c.ingress}))
		}
		if err := unix.Connect(fd, sockaddr(c.target)); !errors.Is(err, c.want) {
			t.Errorf("tag %d to %d: %v, want %v", c.source, c.destination, err, c.want)
		}
		h.ok(unix.Close(fd))
	}
	h.lastEvent(NoTag)
}

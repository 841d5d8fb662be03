// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inner is a second network namespace in which a program of db listens.
type inner struct {
	*host
	there func(f func())
	peers *bufio.Reader // what the program says of its callers
}

func newInner(t *testing.T, flags Guard) *inner {
	t.Helper()
	h := newHost(t)
	h.ok(h.InnerGuards().Put(PortKey{db, port15432}, flags))
	return &inner{host: h, there: h.elsewhere()}
}

// program starts the server, by a verb of the helper.
func (i *inner) program(verb, listener string) {
	i.t.Helper()
	cmd := i.command("db", verb, listener)
	in, err := cmd.StdinPipe()
	i.ok(err)
	out, err := cmd.StdoutPipe()
	i.ok(err)
	i.there(func() { i.ok(cmd.Start()) })
	i.t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	i.peers = bufio.NewReader(out)
	if line, err := i.peers.ReadString('\n'); err != nil || line != "ready\n" {
		i.t.Fatalf("the program: %q, %v", line, err)
	}
}

// saw returns the address of the program's next caller.
func (i *inner) saw() string {
	i.t.Helper()
	line, err := i.peers.ReadString('\n')
	i.ok(err)
	host, _, err := net.SplitHostPort(strings.TrimSpace(line))
	i.ok(err)
	return strings.TrimPrefix(host, "::ffff:")
}

// here is the result of a connect() by a program of that cgroup in the namespace.
func (i *inner) here(cgroup, target string) (result string) {
	i.t.Helper()
	i.there(func() { result = i.do(cgroup, "connect", target) })
	return result
}

// dial connects from the daemon's cgroup, with a socket of the other namespace that
// is bound to from.
func (i *inner) dial(from, to string, source uint32, tagged bool) (fd int, err error) {
	return i.dialAs(from, to, Tag{Pair: Pair{source, db}}, tagged)
}

func (i *inner) dialAs(from, to string, as Tag, tagged bool) (fd int, err error) {
	i.t.Helper()
	i.there(func() {
		family := unix.AF_INET
		if strings.HasPrefix(to, "[") {
			family = unix.AF_INET6
		}
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		i.ok(err)
		if tagged {
			i.ok(i.Tag(fd, as))
		}
		i.ok(unix.Bind(fd, sockaddr(from)))
		err = unix.Connect(fd, sockaddr(to))
	})
	i.t.Cleanup(func() { _ = unix.Close(fd) })
	return fd, err
}

// TestInner: a service in another network namespace is reached by the daemon's tagged
// sockets, which show the source's virtual address, and by nobody from the network.
func TestInner(t *testing.T) {
	const named, own = "127.64.0.1:0", "10.7.0.2:15432"
	for _, c := range []struct {
		name, verb, listener, from, to string
		flags                          Guard
		peer                           string
	}{
		{"loopback", "serve", "127.0.0.1:15432", named, "127.0.0.1:15432", Guard{}, web4},
		{"every address", "serve", "0.0.0.0:15432", named, "127.0.0.1:15432", Guard{}, web4},
		{"both families", "serve", "[::]:15432", named, "127.0.0.1:15432", Guard{}, web4},
		{"own address", "serve", own, named, own, Guard{}, web4},
		{"IPv6", "serve", "[::1]:15432", "[::1]:0", "[::1]:15432", Guard{}, "fd7a:ac17::1"},
		{"MPTCP", "serve-mptcp", "0.0.0.0:15432", named, "127.0.0.1:15432", Guard{}, web4},
		{"client_address loopback", "serve", "127.0.0.1:15432", "127.0.0.1:0", "127.0.0.1:15432", Guard{Loopback: true}, "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := newInner(t, c.flags)
			i.program(c.verb, c.listener)
			if _, err := i.dial(c.from, c.to, web, true); err != unix.ECONNREFUSED {
				t.Errorf("denied: %v", err)
			}
			i.lastEvent(Default)
			if _, err := i.dial(c.from, c.to, web, false); err != unix.ECONNREFUSED {
				t.Errorf("without a tag: %v", err)
			}
			i.lastEvent(NoTag)
			i.allow(Pair{web, db})
			if _, err := i.dial(c.from, c.to, web, true); err != nil {
				t.Fatal(err)
			}
			if peer := i.saw(); peer != c.peer {
				t.Errorf("the program saw %s, want %s", peer, c.peer)
			}
			if used, err := i.Usage(0); err != nil || used != 0 {
				t.Errorf("%d records are left, %v", used, err)
			}
		})
	}
}

// TestInnerGuard: nothing reaches the program plainly, from the network or from its
// own namespace, also without the daemon and where the program is older than its
// enrolment. Its port is nobody else's business.
func TestInnerGuard(t *testing.T) {
	const loopback, own, timeout = "127.0.0.1:15432", "10.7.0.2:15432", "timeout"
	for _, older := range []bool{false, true} {
		t.Run(fmt.Sprintf("older %t", older), func(t *testing.T) {
			i := newInner(t, Guard{Serving: true})
			cgroup := i.dir("db")
			if older {
				i.ok(i.Workloads().Delete(cgroup))
			}
			i.program("serve", "0.0.0.0:15432")
			if older {
				if out := i.do("nobody", "prompt", own); out != "ok "+own {
					t.Fatalf("nobody's: %s", out)
				}
				i.saw()
				i.ok(i.Workloads().Put(cgroup, db))
			}
			plain := func(want string) {
				t.Helper()
				if out := i.do("nobody", "prompt", own); !strings.Contains(out, want) {
					t.Errorf("from the network: %s, want %s", out, want)
				}
			}
			plain(timeout)
			if e := i.lastEvent(Guarded); e.Pair.Destination != db || e.Target.String() != own {
				t.Errorf("event %+v", e)
			}
			i.there(func() { _, err := i.Sweep(t.Context()); i.ok(err) }) // gives an older listener its creator
			for _, c := range []string{"nobody", "web"} {
				if out := i.here(c, loopback); out != refused {
					t.Errorf("%s in the same namespace: %s", c, out)
				}
			}
			i.allow(Pair{web, db})
			for c, peer := range map[string]string{"web": web4, "db": "127.0.0.1"} {
				if out := i.here(c, loopback); out != "ok "+loopback {
					t.Errorf("%s in the same namespace: %s", c, out)
				} else if saw := i.saw(); saw != peer {
					t.Errorf("%s was seen as %s, want %s", c, saw, peer)
				}
			}
			i.ok(i.Remotes().Put(netip.MustParseAddrPort(own), db))
			for c, want := range map[string]string{"nobody": refused, "other": refused, "db": "ok " + own} {
				if out := i.here(c, own); out != want {
					t.Errorf("%s by the program's own address: %s, want %s", c, out, want)
				}
			}
			if out := i.do("nobody", "connect", own); out != refused {
				t.Errorf("on the host: %s", out)
			}
			i.ok(i.Remotes().Delete(netip.MustParseAddrPort(own)))
			i.ok(i.InnerGuards().Put(PortKey{db, port15432}, Guard{Permissive: true}))
			plain("ok " + own)
			i.ok(i.InnerGuards().Put(PortKey{db, port15432}, Guard{}))
			i.ok(i.SetDaemonCgroup(1 << 60)) // nobody is the daemon
			plain(timeout)
			i.ok(i.InnerGuards().Delete(PortKey{db, port15432}))
			plain("ok " + own)
		})
	}
}

// TestInnerSweep: live connections that were never judged are cut, and those whose
// intention goes.
func TestInnerSweep(t *testing.T) {
	const own, loopback = "10.7.0.2:15432", "127.0.0.1:15432"
	i := newInner(t, Guard{})
	i.program("serve", "0.0.0.0:15432")
	i.ok(i.InnerGuards().Delete(PortKey{db, port15432}))
	plain := i.holding("nobody", "connect", own)
	i.ok(i.InnerGuards().Put(PortKey{db, port15432}, Guard{Serving: true}))
	i.allow(Pair{web, db})
	var self, judged chan struct{}
	i.there(func() { self, judged = i.holding("db", "connect", loopback), i.holding("web", "connect", loopback) })
	sweep := func(want int) {
		t.Helper()
		i.there(func() {
			if n, err := i.Sweep(t.Context()); err != nil || n != want {
				t.Errorf("cut %d, %v; want %d", n, err, want)
			}
		})
	}
	sweep(1)
	<-plain
	sweep(0)
	i.ok(i.Intentions().Delete(Pair{web, db}))
	sweep(1)
	<-judged
	select {
	case <-self:
		t.Error("a program's connection to itself was cut")
	default:
	}
}

// TestInnerListening: a listener in another namespace is announced when it begins and
// when its program is killed.
func TestInnerListening(t *testing.T) {
	i := newInner(t, Guard{})
	ctx, cancel := context.WithCancel(t.Context())
	looks, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() { ended <- i.Listening(ctx, func() { looks <- struct{}{} }) }()
	t.Cleanup(func() { cancel(); <-ended })
	var cmd *exec.Cmd
	i.there(func() { cmd, _, _ = i.server("db", "serve", "127.0.0.1:15432") })
	<-looks
	<-looks
	i.ok(cmd.Process.Kill())
	_ = cmd.Wait()
	<-looks
}

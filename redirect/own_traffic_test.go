// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/redirect/sockdiag"

	"golang.org/x/sys/unix"
)

// TestOwnTraffic captures what programs of the daemon's namespace send, without any hook, and finds the cgroup of each
// caller; the daemon's own traffic is not captured.
func TestOwnTraffic(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			useBackend(t, backend)
			enter(t)
			there := newElsewhere(t)
			there.join(t)
			shell(t, "ip route add default via 10.9.0.2; ip -6 route add default via fd00:9::2")
			listeners, dns4, dns6 := listenAll(t)
			c := everything()
			c.Port4, c.Port6 = listeners.Ports()
			c.DNSPort4, c.DNSPort6 = dns4.Port(), dns6.Port()
			c.Daemon = emptyCgroup(t)
			c.Guards = []uint16{5432}
			plan := NewPlan(c)
			must(t, Apply(plan))
			if lines, err := Drift(plan); err != nil || len(lines) > 0 {
				t.Errorf("drift = %q, %v", lines, err)
			}
			for _, from := range []place{here{}, there} {
				captured(t, from, listeners.TCP4, "240.64.0.9:5432")
				captured(t, from, listeners.TCP6, "[fd7a:ac17::9]:5432")
				captured(t, from, dns4.TCP, "10.99.0.53:53")
				answered(t, from, dns4.UDP, "10.99.0.53:53")
				answered(t, from, dns6.UDP, "[fd00:99::53]:53")
			}
			answered(t, here{}, dns4.UDP, "127.0.0.53:53")

			identified(t, here{}, listeners.TCP4, "240.64.0.9:80", ownCgroup(t))
			identified(t, here{}, listeners.TCP6, "[fd7a:ac17::9]:80", ownCgroup(t))
			identified(t, here{}, listeners.TCP4, "[::ffff:240.64.0.9]:80", ownCgroup(t))
			identified(t, there, listeners.TCP4, "240.64.0.9:80", 0)

			// To a guarded port only the daemon connects.
			service, err := net.Listen("tcp", ":5432")
			must(t, err)
			defer service.Close()
			for _, addr := range []string{"10.9.0.1:5432", "[fd00:9::1]:5432"} {
				for _, from := range []place{here{}, there} {
					if err := dial(from, addr, patience); !errors.Is(err, unix.ECONNREFUSED) {
						t.Errorf("guarded: dial %s = %v", addr, err)
					}
				}
			}
			if err := dial(here{}, "127.0.0.1:5432", patience); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("guarded: dial by loopback = %v", err)
			}
			// Nothing leaves the host, though IPv6's refusal doesn't reach a socket that is bound to a device.
			for program, addr := range map[string]string{"iptables": "240.64.0.9:5432", "ip6tables": "[fd7a:ac17::9]:5432"} {
				d := net.Dialer{Timeout: time.Second, Control: bindTo("here")}
				if conn, err := d.Dial("tcp", addr); err == nil {
					t.Errorf("bound to a device: dial %s = %v", addr, conn)
				}
				if rule := shell(t, program+" -v -S TACIT-OUTPUT | grep -e '-d .* ! -o lo'"); strings.Contains(rule, "-c 0 0") {
					t.Errorf("not refused on its way out: %s", rule)
				}
			}

			// With this test's cgroup as the daemon's, nothing is captured.
			must(t, Apply(NewPlan(with(func(o *Config) { *o = c; o.Daemon = strings.TrimPrefix(cgroupPath(t), cgroupTop(t)) + "/" }))))
			must(t, dial(here{}, "127.0.0.1:5432", patience))
			must(t, service.Close())
			if conn, err := net.DialTimeout("tcp", "240.64.0.9:5432", patience); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("the daemon's own connection: %v, %v", conn, err)
			}
			must(t, Cleanup())
			if held := tablesHeld(t); held != "" {
				t.Errorf("cleanup left:\n%s", held)
			}
		})
	}
}

// bindTo binds a socket to a device before it connects.
func bindTo(device string) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) }), err)
	}
}

// identified connects to addr and compares the client's cgroup with want; 0: it can't be found.
func identified(t *testing.T, from place, ln *net.TCPListener, addr string, want uint64) {
	t.Helper()
	var client net.Conn
	must(t, from.do(func() (err error) { client, err = net.DialTimeout("tcp", addr, patience); return err }))
	defer client.Close()
	must(t, ln.SetDeadline(time.Now().Add(patience)))
	conn, err := ln.AcceptTCP()
	must(t, err)
	defer conn.Close()
	ask := func() (got uint64, err error) {
		rc, outer := conn.SyscallConn()
		must(t, outer)
		must(t, rc.Control(func(fd uintptr) { got, err = sockdiag.CallerCgroup(int(fd)) }))
		return got, err
	}
	if got, err := ask(); got != want || (want == 0) != errors.Is(err, sockdiag.ErrNoSocket) {
		t.Errorf("who connected to %s: %d, %v; want %d", addr, got, err, want)
	}
	must(t, client.(*net.TCPConn).SetLinger(0))
	must(t, client.Close())
	within(t, "the reset to arrive", func() bool { _, err := ask(); return errors.Is(err, sockdiag.ErrNoSocket) })
}

// emptyCgroup makes an empty cgroup and returns its path below the tree's root.
func emptyCgroup(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(cgroupPath(t), "redirect-test-")
	must(t, err)
	t.Cleanup(func() { must(t, os.Remove(dir)) })
	return filepath.Join("/", strings.TrimPrefix(dir, cgroupTop(t)))
}

// ownCgroup is the ID of this process's cgroup v2: the inode of its directory.
func ownCgroup(t *testing.T) uint64 {
	t.Helper()
	info, err := os.Stat(cgroupPath(t))
	must(t, err)
	return info.Sys().(*syscall.Stat_t).Ino
}

func cgroupPath(t *testing.T) string {
	t.Helper()
	return cgroupTop(t) + shell(t, "printf %s \"$(sed -n s/^0:://p /proc/self/cgroup)\"")
}

func cgroupTop(t *testing.T) string {
	t.Helper()
	return shell(t, "printf %s \"$(grep -m1 ' cgroup2 ' /proc/self/mounts | cut -d' ' -f2)\"")
}

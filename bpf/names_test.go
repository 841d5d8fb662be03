// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// names starts a DNS server in a cgroup.
func (h *host) names(cgroup, addr string) (stop func()) {
	h.t.Helper()
	cmd := h.command(cgroup, "names", addr)
	in, err := cmd.StdinPipe()
	h.ok(err)
	out, err := cmd.StdoutPipe()
	h.ok(err)
	h.ok(cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		h.t.Fatalf("DNS server: %q, %v", line, err)
	}
	return func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
}

// TestNames: queries to a resolver of the host reach the daemon, and answers seem to
// come from that resolver. Without the daemon, queries go where they are sent.
func TestNames(t *testing.T) {
	h := newHost(t)
	h.ok(h.SetResolvers([]Resolver{
		{Addr: netip.MustParseAddr("10.9.9.9"), Port4: 15353, Port6: 15353},
		{Addr: netip.MustParseAddr("fd99::9"), Port4: 15354, Port6: 15353},
	}))
	run(t, "ip addr add 10.9.9.1/24 dev lo", "ip -6 addr add fd99::1/64 dev lo nodad")
	stop, stop6 := h.names("daemon", "127.0.0.1:15353"), h.names("daemon", "[::1]:15353")
	queries := []struct{ how, target, from string }{
		{"sendto", "10.9.9.9:53", "10.9.9.9:53"},
		{"sendto", "[::ffff:10.9.9.9]:53", "[::ffff:10.9.9.9]:53"},
		{"sendto", "[fd99::9]:53", "[fd99::9]:53"},
		{"connected", "10.9.9.9:53", "10.9.9.9:53"},
		{"connected", "[::ffff:10.9.9.9]:53", "[::ffff:10.9.9.9]:53"},
		{"connected", "[fd99::9]:53", "[fd99::9]:53"},
	}
	for _, q := range queries {
		if out := h.do("nobody", "udp", q.how, q.target); out != "answer "+q.from {
			t.Errorf("%s %s: %s", q.how, q.target, out)
		}
		if out := h.do("nobody", "connect", q.target); out != "ok "+q.target {
			t.Errorf("by TCP to %s: %s", q.target, out)
		}
	}
	stop()
	stop6()
	// another program on the port of the dead daemon must not get queries
	defer h.names("nobody", "127.0.0.1:15353")()
	run(t, "ip addr add 10.9.9.9/32 dev lo")
	if out := h.do("nobody", "udp", "sendto", "10.9.9.9:53"); strings.HasPrefix(out, "answer") {
		t.Errorf("without the daemon: %s", out)
	}
}

// TestLookUpsByUnix: while the daemon runs, a workload can't connect to nscd or
// systemd-resolved, so its libc sends DNS queries itself.
func TestLookUpsByUnix(t *testing.T) {
	h := newHost(t)
	none := unix.ENOENT.Error()
	try := func(cgroup, path, want string) {
		t.Helper()
		if out := h.do(cgroup, "unix", path); out != want {
			t.Errorf("%s to %s: %s, want %s", cgroup, path, out, want)
		}
	}
	const nscd = "/run/nscd/socket"
	try("web", nscd, none)
	alive := h.listen("127.0.0.1:0")
	h.ok(h.SetServing(fd(t, alive)))
	for _, path := range []string{nscd, "/var/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve"} {
		try("web", path, unix.ECONNREFUSED.Error())
		try("nobody", path, none)
	}
	for _, path := range []string{"/run/nscd/socket2", "/run/nscd/socke", "/run/none", "none"} {
		try("web", path, none)
	}
	h.ok(alive.Close())
	try("web", nscd, none)
}

// TestUDPToServices: sending is refused. connect() is not, since libc connects UDP
// sockets to sort addresses (RFC 6724) without sending anything.
func TestUDPToServices(t *testing.T) {
	h := newHost(t)
	h.proxy()
	for _, target := range []string{db4, db6, mapped} {
		if out := h.do("web", "udp", "sendto", target); out != refused {
			t.Errorf("sendto %s: %s", target, out)
		}
		h.lastEvent(UDP)
		if out := h.do("web", "udp", "connected", target); out != refused {
			t.Errorf("connected to %s: %s", target, out)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// query returns a DNS query for a name.
func query(name string) []byte {
	return append(append(make([]byte, 12), wire(name)...), 0, 1, 0, 1)
}

// TestNamesStay: a query for a mesh name doesn't leave the host while the daemon is
// down, nor ever to the host's resolvers. Queries for other names leave.
func TestNamesStay(t *testing.T) {
	h := newHost(t)
	there := h.elsewhere()
	var upstream net.PacketConn
	there(func() {
		var err error
		upstream, err = net.ListenPacket("udp4", "10.7.0.2:53")
		h.ok(err)
		ln := h.listen("10.7.0.2:53")
		go func() {
			for conn, err := ln.Accept(); err == nil; conn, err = ln.Accept() {
				defer conn.Close()
			}
		}()
	})
	defer upstream.Close()
	for _, domain := range []string{"mesh", "consul"} {
		h.ok(h.Names().Put(domain, 0))
	}
	for _, name := range []string{"db", "db.corp.example"} {
		h.ok(h.Names().Put(name, NameLength(name)))
	}
	leaves := func(name string, want bool) {
		t.Helper()
		out := h.do("nobody", "ask", "10.7.0.2:53", name)
		if (out == "sent") != want {
			t.Errorf("a query for %s: %s, want it sent: %v", name, out, want)
		}
	}
	all := func(mesh bool) {
		t.Helper()
		for _, name := range []string{"mesh", "db.mesh", "DB.Mesh", "a.b.db.mesh.", "db", "Db", "db.corp.example", "db.service.consul"} {
			leaves(name, mesh)
		}
		for _, name := range []string{"example.com", "xmesh", "mesh.example", "x.db", "dbx", "corp.example", "x.db.corp.example", strings.Repeat("a.", 120) + "x"} {
			leaves(name, true)
		}
	}
	all(false)
	alive := h.listen("127.0.0.1:0")
	h.ok(h.SetServing(fd(t, alive)))
	all(true) // the daemon runs: a query to another server is deliberate
	h.ok(h.SetResolvers([]Resolver{{Addr: netip.MustParseAddr("10.7.0.2"), Port4: 1}}))
	all(false)
	h.ok(h.SetResolvers(nil))
	h.ok(alive.Close())
	all(false)
	names, err := h.Names().All()
	if err != nil || len(names) != 4 || names["db.corp.example"] != 17 {
		t.Errorf("names %v, %v", names, err)
	}
}

// TestDiverted: a captured connection that a NAT rule redirects to another host is
// dropped.
func TestDiverted(t *testing.T) {
	h := newHost(t)
	h.proxy()
	there := h.elsewhere()
	h.serve(db, 5432, Port{Remote: true})
	h.allow(Pair{web, db})
	there(func() { h.listen("10.7.0.2:5432") })
	run(t, "iptables -t nat -A OUTPUT -d 240.64.0.0/12 -p tcp -j DNAT --to-destination 10.7.0.2:5432")
	if out := h.do("web", "prompt", db4); strings.HasPrefix(out, "ok") {
		t.Errorf("it reached the target of the NAT rule: %s", out)
	}
	h.lastEvent(Diverted)
}

// helpAsk sends one DNS query by UDP.
func helpAsk(to, name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Sendto(fd, query(name), 0, sockaddr(to))
}

// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"tacit/node/config"
	"tacit/node/definition"
	"tacit/node/workload"
	"tacit/redirect/sockdiag"
)

// TestJudge: who holds the port decides whether the instance is served, and
// where it is dialled.
func TestJudge(t *testing.T) {
	const ours, others, systemd = 7, 8, 1
	uid := uint32(1000)
	at := func(addr string, cgroup uint64) sockdiag.Listener {
		return sockdiag.Listener{Addr: netip.MustParseAddrPort(addr), CgroupID: cgroup}
	}
	type socks = []sockdiag.Listener
	for name, c := range map[string]struct {
		address string // of the definition
		unknown bool   // no workload to compare
		init    uint64
		socks   []sockdiag.Listener
		state   State
		dial    string
		anyone  bool
		lasts   bool
	}{
		"nobody":                         {state: StateNone},
		"loopback only":                  {socks: socks{at("127.0.0.1:80", ours)}, state: StateVerified, dial: "127.0.0.1:80", lasts: true},
		"every address":                  {socks: socks{at("0.0.0.0:80", ours)}, state: StateVerified, dial: "127.0.0.1:80", lasts: true},
		"every address of both families": {socks: socks{at("[::]:80", ours)}, state: StateVerified, dial: "127.0.0.1:80", lasts: true},
		"every IPv6 address":             {socks: socks{{Addr: netip.MustParseAddrPort("[::]:80"), CgroupID: ours, V6Only: true}}, state: StateVerified, dial: "[::1]:80", lasts: true},
		"IPv6 loopback only":             {socks: socks{at("[::1]:80", ours)}, state: StateVerified, dial: "[::1]:80", lasts: true},
		"IPv4 is preferred":              {socks: socks{at("[::]:80", ours), at("0.0.0.0:80", ours)}, state: StateVerified, dial: "127.0.0.1:80"},
		"every address, shared":          {socks: socks{at("0.0.0.0:80", ours), at("0.0.0.0:80", ours)}, state: StateVerified, dial: "127.0.0.1:80"},
		"loopback, shared":               {socks: socks{at("127.0.0.1:80", ours), at("0.0.0.0:80", ours)}, state: StateVerified, dial: "127.0.0.1:80"},
		"one address":                    {socks: socks{at("10.0.0.5:80", ours)}, state: StateVerified, dial: "10.0.0.5:80", lasts: true},
		"an IPv4 one of an IPv6 socket":  {socks: socks{at("[::ffff:10.0.0.5]:80", ours)}, state: StateVerified, dial: "10.0.0.5:80", lasts: true},
		"no workload to compare":         {unknown: true, socks: socks{at("0.0.0.0:80", others)}, state: StateUnverified, dial: "127.0.0.1:80", anyone: true, lasts: true},
		"the service's user":             {socks: socks{{Addr: netip.MustParseAddrPort("0.0.0.0:80"), CgroupID: others, UID: uid}}, state: StateVerified, dial: "127.0.0.1:80", lasts: true},
		"systemd, for its unit":          {init: systemd, socks: socks{at("0.0.0.0:80", systemd)}, state: StateVerified, dial: "127.0.0.1:80", anyone: true},
		"the unit itself":                {init: systemd, socks: socks{at("0.0.0.0:80", ours)}, state: StateVerified, dial: "127.0.0.1:80", lasts: true},
		"nobody, systemd may come":       {init: systemd, state: StateNone, anyone: true},
		"systemd, for another":           {socks: socks{at("0.0.0.0:80", systemd)}, state: StateUnowned},
		"another program":                {socks: socks{at("0.0.0.0:80", others)}, state: StateUnowned},
		"another program beside ours":    {socks: socks{at("0.0.0.0:80", ours), at("0.0.0.0:80", others)}, state: StateUnowned},
		"own address, every address":     {address: "10.0.0.5", socks: socks{at("0.0.0.0:80", ours)}, state: StateVerified, dial: "10.0.0.5:80", lasts: true},
		"own address, loopback":          {address: "10.0.0.5", socks: socks{at("127.0.0.1:80", ours)}, state: StateVerified, dial: "127.0.0.1:80", lasts: true},
		"another address doesn't count":  {address: "10.0.0.5", socks: socks{at("10.0.0.6:80", others)}, state: StateNone},
	} {
		t.Run(name, func(t *testing.T) {
			d := definition.Definition{Name: "db", ID: "db", Port: 80, Address: c.address}
			got := judge(d, c.socks, owners{known: !c.unknown, cgroup: func(id uint64) bool { return id == ours }, uid: &uid, init: c.init})
			if got.State != c.state || got.Anyone != c.anyone || (c.dial != "") != got.Addr.IsValid() || c.dial != "" && got.Addr.String() != c.dial {
				t.Errorf("got %+v, want %s at %s", got, c.state, c.dial)
			}
			if got.Lasts() != c.lasts {
				t.Errorf("lasts: %t", got.Lasts())
			}
			if (got.Owner != "") != (c.state == StateUnowned) {
				t.Errorf("owner %q", got.Owner)
			}
		})
	}
}

// TestOwners: what a service's workload is compared with.
func TestOwners(t *testing.T) {
	unit, plain := []workload.Cgroup{{Path: "/top/db.service"}}, []workload.Cgroup{{Path: "/top/db"}}
	for name, c := range map[string]struct {
		cgroups []workload.Cgroup
		named   definition.Workload
		known   bool
		systemd bool
	}{
		"nothing":               {},
		"a cgroup":              {cgroups: plain, known: true},
		"a unit":                {cgroups: unit, known: true, systemd: true},
		"a cgroup, not there":   {named: definition.Workload{Cgroup: "db"}, known: true},
		"a unit, not there yet": {named: definition.Workload{SystemdUnit: "db"}, known: true, systemd: true},
	} {
		o := ownersOf(Service{Definition: definition.Definition{Workload: c.named}, Cgroups: c.cgroups}, func() uint64 { return 1 })
		if o.known != c.known || (o.init == 1) != c.systemd {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

// TestReach: an instance is dialled where it listens, and never where another
// program does.
func TestReach(t *testing.T) {
	h := newHost(t, config.Exclude{})
	ln, err := net.Listen("tcp", "127.0.0.1:5432")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	h.file("a.hcl", `service { name = "db" port = 5432 } service { name = "other" port = 5432 workload { uid = 4000000 } } service { name = "down" port = 1 }`)
	h.ids()
	for id, want := range map[string]string{
		"db": "127.0.0.1:5432 <nil>", "down": "invalid AddrPort nobody listens on port 1 of down", "gone": "invalid AddrPort gone doesn't run on this node",
	} {
		at, _, err := h.Reach(id)
		if got := fmt.Sprint(at, " ", err); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	if _, _, err := h.Reach("other"); err == nil || !strings.Contains(err.Error(), "port 5432 of other: socket of uid ") {
		t.Errorf("another program's port: %v", err)
	}
	if got := len(h.View().Definitions()); got != 3 {
		t.Errorf("%d definitions", got)
	}
}

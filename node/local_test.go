// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"testing"

	"tacit/redirect/sockdiag"

	"tacit/identity"
	"tacit/node/definition"
)

// TestJudgeListeners: who holds the port decides whether the instance is
// served, and where it is dialled.
func TestJudgeListeners(t *testing.T) {
	const ours, foreign = 7, 8
	uid := uint32(1000)
	at := func(addr string, cgroup uint64) sockdiag.Listener {
		return sockdiag.Listener{Addr: netip.MustParseAddrPort(addr), CgroupID: cgroup}
	}
	for name, c := range map[string]struct {
		address string
		known   bool
		init    uint64
		socks   []sockdiag.Listener
		state   string
		dial    string
		anyone  bool
	}{
		"nobody":                         {known: true, state: listenerNone},
		"loopback only":                  {known: true, socks: []sockdiag.Listener{at("127.0.0.1:80", ours)}, state: listenerVerified, dial: "127.0.0.1:80"},
		"every address":                  {known: true, socks: []sockdiag.Listener{at("0.0.0.0:80", ours)}, state: listenerVerified, dial: "127.0.0.1:80"},
		"every address of both families": {known: true, socks: []sockdiag.Listener{at("[::]:80", ours)}, state: listenerVerified, dial: "[::1]:80"},
		"IPv4 is preferred":              {known: true, socks: []sockdiag.Listener{at("[::]:80", ours), at("0.0.0.0:80", ours)}, state: listenerVerified, dial: "127.0.0.1:80"},
		"one address":                    {known: true, socks: []sockdiag.Listener{at("10.0.0.5:80", ours)}, state: listenerVerified, dial: "10.0.0.5:80"},
		"no workload to compare":         {socks: []sockdiag.Listener{at("0.0.0.0:80", foreign)}, state: listenerUnverified, dial: "127.0.0.1:80", anyone: true},
		"the service's user":             {known: true, socks: []sockdiag.Listener{{Addr: netip.MustParseAddrPort("0.0.0.0:80"), CgroupID: foreign, UID: uid}}, state: listenerVerified, dial: "127.0.0.1:80"},
		"systemd, for its unit":          {known: true, init: 1, socks: []sockdiag.Listener{at("0.0.0.0:80", 1)}, state: listenerVerified, dial: "127.0.0.1:80", anyone: true},
		"the unit itself":                {known: true, init: 1, socks: []sockdiag.Listener{at("0.0.0.0:80", ours)}, state: listenerVerified, dial: "127.0.0.1:80"},
		"nobody, systemd may come":       {known: true, init: 1, state: listenerNone, anyone: true},
		"systemd, for another":           {known: true, socks: []sockdiag.Listener{at("0.0.0.0:80", 1)}, state: listenerForeign},
		"somebody else":                  {known: true, socks: []sockdiag.Listener{at("0.0.0.0:80", foreign)}, state: listenerForeign},
		"somebody else beside ours":      {known: true, socks: []sockdiag.Listener{at("0.0.0.0:80", ours), at("0.0.0.0:80", foreign)}, state: listenerForeign},
		"own address, every address":     {address: "10.0.0.5", known: true, socks: []sockdiag.Listener{at("0.0.0.0:80", ours)}, state: listenerVerified, dial: "10.0.0.5:80"},
		"another address doesn't count":  {address: "10.0.0.5", known: true, socks: []sockdiag.Listener{at("10.0.0.6:80", foreign)}, state: listenerNone},
	} {
		t.Run(name, func(t *testing.T) {
			d := definition.Definition{Name: "db", ID: "db", Port: 80, Address: c.address}
			got := judgeListeners(d, c.socks, owners{known: c.known, cgroup: func(id uint64) bool { return id == ours }, uid: &uid, init: c.init})
			if got.state != c.state || got.anyone != c.anyone || (c.dial != "" && got.addr.String() != c.dial) {
				t.Errorf("got %s at %s, want %s at %s", got.state, got.addr, c.state, c.dial)
			}
		})
	}
}

// TestClash: one port of a node belongs to one instance.
func TestClash(t *testing.T) {
	v := &localView{services: []localService{{Definition: definition.Definition{Name: "db", ID: "db", Port: 5432}}}}
	for _, c := range []struct {
		id    string
		name  identity.Name
		port  uint16
		fails bool
	}{
		{"db", "db", 5432, false}, // the same again
		{"db-2", "db", 5432, true},
		{"web", "web", 5432, true},
		{"web", "web", 80, false},
		{"client", "client", 0, false},
	} {
		err := v.clash(definition.Definition{Name: c.name, ID: c.id, Port: c.port})
		if (err != nil) != c.fails {
			t.Errorf("%s on %d: %v", c.id, c.port, err)
		}
	}
}

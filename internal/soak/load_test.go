// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

const dbPort = 8000

// bed is a mesh under load: db runs on host2; web may call it, evil may not,
// nobody is no workload, from both nodes. All is on record on the wire, and a
// packet that goes astray has a router to go to.
type bed struct {
	*mesh
	outside *testhost.Host
	wire    *testhost.Wire
	db      *testhost.Process
	places  map[*testhost.Host][]netip.AddrPort // ways to db
	callers []*source
	spent   []*source // ended
}

// source is a caller of the load.
type source struct {
	*testhost.Process
	name string
	host *testhost.Host
}

func newBed(t *testing.T, prepare func(*testhost.Host)) *bed {
	t.Helper()
	net := testhost.NewNet(t)
	b := &bed{outside: net.Host(t, "outside"), places: map[*testhost.Host][]netip.AddrPort{}}
	b.wire = net.Record(t)
	b.mesh = newMesh(t, net, func(h *testhost.Host) {
		line := fmt.Sprintf("ip route add default via %s; ip -6 route add default via %s", b.outside.Addr, b.outside.Addr6)
		if out, exit := h.Run(t, "", "sh", "-ec", line); exit != 0 {
			t.Fatal(out)
		}
		if prepare != nil {
			prepare(h)
		}
	}, "db", "web", "evil")
	b.db = b.server(b.host2, "db", dbPort, "0.0.0.0")
	for _, h := range []*testhost.Host{b.host1, b.host2} {
		b.workload(h, "web")
		b.workload(h, "evil")
		b.sh(h, "mkdir -p "+h.CgroupPath("user"))
		v4, v6 := b.virtual(h, "db")
		for _, a := range []netip.Addr{v4, v6, b.host2.Addr} {
			b.places[h] = append(b.places[h], netip.AddrPortFrom(a, dbPort))
		}
	}
	b.tacit(b.host1, "intention", "deny", "evil", "db")
	b.tacit(b.host1, "intention", "allow", "web", "db", "--wait", "--timeout", "30s")
	return b
}

// load starts the callers: rate attempts a second in all, half by who may.
func (b *bed) load(rate int) {
	b.t.Helper()
	for _, c := range []struct {
		host *testhost.Host
		name string
		rate int
	}{
		{b.host1, "web", rate * 3 / 8}, {b.host1, "evil", rate / 8}, {b.host1, "nobody", rate / 8},
		{b.host2, "web", rate / 8}, {b.host2, "evil", rate / 8}, {b.host2, "nobody", rate / 8},
	} {
		cgroup := cgroupOf(c.name)
		if c.name == "nobody" {
			cgroup = "user"
		}
		b.call(c.host, cgroup, plan{Name: c.name, Rate: c.rate, Workers: 24, Targets: b.targets(c.host, c.name)})
	}
	began := time.Now()
	for _, h := range []*testhost.Host{b.host1, b.host2} {
		testhost.Eventually(b.t, 20*time.Second, "web's calls from "+h.Name, func() error { return b.answeredSince(h, began) })
	}
}

// targets: on db's own node, its real address is no way of web's to the mesh.
func (b *bed) targets(h *testhost.Host, name string) []target {
	places := b.places[h]
	if h == b.host2 && name == "web" {
		places = places[:2]
	}
	var out []target
	for _, at := range places {
		out = append(out, target{Name: "db", Addr: at})
	}
	return out
}

func (b *bed) call(h *testhost.Host, cgroup string, p plan) {
	b.t.Helper()
	b.callers = append(b.callers, &source{b.start(h, cgroup, p), p.Name, h})
}

// answeredSince is nil when web has been answered on a call begun after then.
func (b *bed) answeredSince(h *testhost.Host, then time.Time) error {
	for _, c := range b.callers {
		if c.name == "web" && c.host == h {
			text := c.Output()
			for _, a := range attempts(text[max(0, len(text)-10_000):]) {
				if a.result == "ok" && a.start.After(then) {
					return nil
				}
			}
			return fmt.Errorf("%s on %s isn't answered; the last: %s", c.name, h.Name, tail(text))
		}
	}
	return fmt.Errorf("no web on %s", h.Name)
}

// rest ends the callers.
func (b *bed) rest() {
	b.t.Helper()
	for _, c := range b.callers {
		c.Signal(syscall.SIGTERM)
	}
	for _, c := range b.callers {
		c.Wait(b.t, 2*callLimit)
	}
	b.spent, b.callers = append(b.spent, b.callers...), nil
}

// all are the attempts of the callers of a name on a host so far; nil is both
// hosts.
func (b *bed) all(h *testhost.Host, name string) []attempt {
	var out []attempt
	for _, c := range slices.Concat(b.spent, b.callers) {
		if c.name == name && (h == nil || c.host == h) {
			out = append(out, attempts(c.Output())...)
		}
	}
	return out
}

// denied are names that must never be answered.
func denied() []string { return []string{"evil", "nobody", "worse", "outside"} }

// closed wants that nothing was open in all that time.
func (b *bed) closed(t *testing.T, what string) {
	t.Helper()
	results := map[string]int{}
	for _, name := range denied() {
		for result, n := range tally(b.all(nil, name)) {
			results[result] += n
		}
	}
	figure(t, what+": denied attempts, by result", "%v", results)
	zero(t, what+": denied, and yet answered", results["ok"])
	heard := 0
	for _, s := range servedBy(b.db.Output()) {
		if slices.Contains(denied(), s.name) {
			heard++
		}
	}
	zero(t, what+": denied, and yet heard by the server", heard)
	b.wire.Mark(t)
	zero(t, what+": payloads in clear on the wire", b.wire.Times(t, canary))
	frames := b.wire.Frames(t, "net 240.64.0.0/12 or net fd7a:ac17::/32")
	zero(t, what+": packets for virtual addresses on the wire", len(frames))
	if len(frames) > 0 {
		t.Log(strings.Join(frames[:min(5, len(frames))], "\n"))
	}
}

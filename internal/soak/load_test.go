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

// loadFixture is a mesh under load: db runs on host2. On both nodes, web
// may call it, evil may not, and nobody is no workload. Every frame on the wire is
// captured, and packets that miss the mesh have a default route to leave by.
type loadFixture struct {
	t            *testing.T
	host1, host2 *testhost.Host
	outside      *testhost.Host
	wire         *testhost.Wire
	db           *testhost.Process
	places       map[*testhost.Host][]netip.AddrPort // of db
	callers      []*source
	spent        []*source // callers that have ended
}

// source is a caller of the load.
type source struct {
	*testhost.Process
	name string
	host *testhost.Host
}

// newLoadFixture calls prepare for each node before its daemon starts.
func newLoadFixture(t *testing.T, prepare func(*testhost.Host)) *loadFixture {
	t.Helper()
	f := &loadFixture{t: t, places: map[*testhost.Host][]netip.AddrPort{}}
	testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db", "web", "evil"}, Flags: quiet(), Prepare: func(m *testhost.Mesh) {
		f.host1, f.host2, f.outside = m.Nodes[0], m.Nodes[1], m.Host(t, "outside")
		f.wire = m.Record(t)
		for _, h := range m.Nodes {
			h.Sh(t, fmt.Sprintf("ip route add default via %s; ip -6 route add default via %s", f.outside.Addr, f.outside.Addr6))
			prepare(h)
		}
	}})
	f.db = startServer(t, f.host2, "db", dbPort, "0.0.0.0")
	for _, h := range []*testhost.Host{f.host1, f.host2} {
		h.MakeWorkload(t, "web")
		h.MakeWorkload(t, "evil")
		h.Sh(t, "mkdir -p "+h.CgroupPath("user"))
		v4, v6 := h.Virtual(t, "db")
		for _, a := range []netip.Addr{v4, v6, f.host2.Addr} {
			f.places[h] = append(f.places[h], netip.AddrPortFrom(a, dbPort))
		}
	}
	f.host1.Tacit(t, "intention", "deny", "evil", "db")
	f.host1.Tacit(t, "intention", "allow", "web", "db", "--wait", "--timeout", "30s")
	return f
}

// load starts the callers, which make rate attempts a second, half of them allowed.
func (f *loadFixture) load(rate int) {
	f.t.Helper()
	for _, c := range []struct {
		host *testhost.Host
		name string
		rate int
	}{
		{f.host1, "web", rate * 3 / 8}, {f.host1, "evil", rate / 8}, {f.host1, "nobody", rate / 8},
		{f.host2, "web", rate / 8}, {f.host2, "evil", rate / 8}, {f.host2, "nobody", rate / 8},
	} {
		cgroup := testhost.WorkloadCgroup(c.name)
		if c.name == "nobody" {
			cgroup = "user"
		}
		f.call(c.host, cgroup, plan{Name: c.name, Rate: c.rate, Workers: 24, Targets: f.targets(c.host, c.name)})
	}
	began := time.Now()
	for _, h := range []*testhost.Host{f.host1, f.host2} {
		testhost.Eventually(f.t, 20*time.Second, "web's calls from "+h.Name, func() error { return f.answeredSince(h, began) })
	}
}

// targets are the addresses of db that a caller tries. On db's own node web doesn't
// use the real address, which doesn't pass through the mesh.
func (f *loadFixture) targets(h *testhost.Host, name string) []target {
	places := f.places[h]
	if h == f.host2 && name == "web" {
		places = places[:2]
	}
	var out []target
	for _, at := range places {
		out = append(out, target{Name: "db", Addr: at})
	}
	return out
}

func (f *loadFixture) call(h *testhost.Host, cgroup string, p plan) {
	f.t.Helper()
	f.callers = append(f.callers, &source{startCaller(f.t, h, cgroup, p), p.Name, h})
}

// answeredSince is nil when a call of web's that began after then was answered.
func (f *loadFixture) answeredSince(h *testhost.Host, then time.Time) error {
	for _, c := range f.callers {
		if c.name == "web" && c.host == h {
			text := c.Output()
			for _, a := range attempts(text[max(0, len(text)-10_000):]) {
				if a.result == "ok" && a.start.After(then) {
					return nil
				}
			}
			return fmt.Errorf("%s on %s isn't answered; its last lines: %s", c.name, h.Name, tail(text))
		}
	}
	return fmt.Errorf("no caller web on %s", h.Name)
}

// rest ends the callers.
func (f *loadFixture) rest() {
	f.t.Helper()
	for _, c := range f.callers {
		c.Signal(syscall.SIGTERM)
	}
	for _, c := range f.callers {
		c.Wait(f.t, 2*callLimit)
	}
	f.spent, f.callers = append(f.spent, f.callers...), nil
}

// all are the attempts so far of the callers with a name, on a host or, for nil, on
// both.
func (f *loadFixture) all(h *testhost.Host, name string) []attempt {
	var out []attempt
	for _, c := range slices.Concat(f.spent, f.callers) {
		if c.name == name && (h == nil || c.host == h) {
			out = append(out, attempts(c.Output())...)
		}
	}
	return out
}

// denied are names that must never be answered.
func denied() []string { return []string{"evil", "nobody", "worse", "outside"} }

// closed checks that nothing was open since the start.
func (f *loadFixture) closed(t *testing.T, what string) {
	t.Helper()
	results := map[string]int{}
	for _, name := range denied() {
		for result, n := range tally(f.all(nil, name)) {
			results[result] += n
		}
	}
	figure(t, what+": denied attempts, by result", "%v", results)
	zero(t, what+": denied, but answered", results["ok"])
	received := 0
	for _, s := range servedBy(f.db.Output()) {
		if slices.Contains(denied(), s.name) {
			received++
		}
	}
	zero(t, what+": denied, but received by the server", received)
	f.wire.Mark(t)
	zero(t, what+": plain-text payloads on the wire", f.wire.Times(t, canary))
	frames := f.wire.Frames(t, "net 240.64.0.0/12 or net fd7a:ac17::/32")
	zero(t, what+": packets for virtual addresses on the wire", len(frames))
	if len(frames) > 0 {
		t.Log(strings.Join(frames[:min(5, len(frames))], "\n"))
	}
}

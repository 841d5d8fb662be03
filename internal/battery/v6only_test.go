// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tacit/internal/testhost"
)

// TestIPv6Only is a mesh whose hosts have no IPv4 address except loopback. Lanes use
// IPv6, and virtual IPv4 addresses work all the same.
func TestIPv6Only(t *testing.T) {
	f := &fixture{t: t, boxes: map[string]*testhost.Host{}, servers: map[string]*testhost.Process{}, callers: map[string]*caller{}}
	testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db", "web", "evil"}, Prepare: f.prepareIPv6})
	f.registerIPv6()
	defer f.table.print(t)
	rows := rowsIPv6()
	f.rows(t, up, rows)
	f.kill(t)
	f.rows(t, killed, rows)
	f.wire.check(t)
}

// prepareIPv6 removes the hosts' IPv4 addresses before the daemons start.
func (f *fixture) prepareIPv6(m *testhost.Mesh) {
	f.host1, f.host2, f.outside = m.Nodes[0], m.Nodes[1], m.Host(f.t, "outside")
	f.wire = record(f.t, m.Net, f.outside)
	box := f.host1.Container(f.t, "box")
	f.boxes["box"] = box
	box.Sh(f.t, "ip -6 route replace default via "+box.Addr6.Prev().String())
	for _, h := range []*testhost.Host{f.host1, f.host2, f.outside, box} {
		h.Sh(f.t, "ip -4 addr flush scope global")
		h.Addr = h.Addr6 // the daemon's --address
	}
	for _, h := range m.Nodes {
		h.Sh(f.t, "ip -6 route add default via "+f.outside.Addr6.String())
	}
}

func (f *fixture) registerIPv6() {
	t := f.t
	for _, h := range []*testhost.Host{f.host1, f.host2} {
		h.MakeWorkload(t, "web")
		h.MakeWorkload(t, "evil")
	}
	f.host1.Tacit(t, "service", "register", "app", "--cgroup", f.boxes["box"].CgroupPath("app"))
	f.serve("db", f.host2, "db", servicePort)
	f.serve("plain", f.host2, "", plainPort)
	for _, name := range []string{"web", "app"} {
		f.host1.Tacit(t, "intention", "allow", name, "db", "--wait")
	}
	web, evil := testhost.WorkloadCgroup("web"), testhost.WorkloadCgroup("evil")
	for name, c := range map[string]*caller{
		"web": {host: f.host1, cgroup: web}, "evil": {host: f.host1, cgroup: evil}, "nobody": {host: f.host1, cgroup: "user"},
		"web2": {host: f.host2, cgroup: web}, "evil2": {host: f.host2, cgroup: evil}, "nobody2": {host: f.host2, cgroup: "user"},
		"box app": {host: f.boxes["box"], cgroup: "app"}, "box nobody": {host: f.boxes["box"], cgroup: "user"}, "outside": {host: f.outside, cgroup: "user"},
	} {
		f.callers[name] = c
	}
	v4, v6 := f.host1.Virtual(t, "db")
	here4, here6 := f.host2.Virtual(t, "db")
	f.words = strings.NewReplacer("{v4}", v4.String(), "{v6}", v6.String(), "{here4}", here4.String(), "{here6}", here6.String(),
		"{real6}", f.host2.Addr6.String(), "{port}", fmt.Sprint(servicePort), "{plain}", fmt.Sprint(plainPort))
	for _, from := range []string{"web", "box app"} {
		await(t, "db answers "+from, "ok", func() string { return f.attempt(from, "WARM", "[{v6}]:{port}", "") })
	}
}

func rowsIPv6() []row {
	const vector = "IPv6 only: "
	ways := []string{"", "nonblock", "fastopen", "mptcp", "ring"}
	rows := cross(vector+"remote", "ok", []string{"web"}, []string{"{v4}", "[{v6}]", "[::ffff:{v4}]", "[{real6}]"}, ways)
	rows = append(rows, cross(vector+"remote", refusedOnSend, []string{"evil", "nobody"}, []string{"{v4}", "[{v6}]", "[::ffff:{v4}]", "[{real6}]"}, ways)...)
	rows = append(rows, cross(vector+"remote", refusedOnSend, []string{"outside"}, []string{"[{real6}]"}, ways)...)
	rows = append(rows, cross(vector+"same node", "ok", []string{"web2"}, []string{"{here4}", "[{here6}]"}, ways)...)
	rows = append(rows, killedAs("ok", cross(vector+"same node", "ok", []string{"web2"}, []string{"127.0.0.1", "[::1]"}, ways[:2]))...)
	rows = append(rows, killedAs("ok", cross(vector+"same node, real address", "ok", []string{"web2"}, []string{"[{real6}]"}, ways[:2]))...)
	rows = append(rows, cross(vector+"same node", refused, []string{"evil2", "nobody2"}, []string{"{here4}", "[{here6}]", "127.0.0.1", "[::1]", "[{real6}]"}, ways)...)
	rows = append(rows, cross(vector+"container", "ok", []string{"box app"}, []string{"[{v6}]"}, ways)...)
	rows = append(rows, cross(vector+"container", refused, []string{"box nobody"}, []string{"[{v6}]", "[{real6}]"}, ways)...)
	return append(rows, slices.Concat(cross(vector+"UDP", "sendto: ECONNREFUSED", []string{"web", "box nobody"}, []string{"[{v6}]"}, []string{"udp"}),
		free(cross(vector+"outside of the mesh", "ok", []string{"web", "evil"}, []string{"[{real6}]:{plain}"}, ways[:2])))...)
}

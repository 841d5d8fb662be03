// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tacit/internal/testhost"
)

// TestIPv6Only is a mesh whose hosts have no IPv4 address but loopback's: lanes
// go over IPv6, and virtual IPv4 addresses are reached all the same.
func TestIPv6Only(t *testing.T) {
	net := testhost.NewNet(t)
	b := &bed{t: t, host1: net.Host(t, "host1"), host2: net.Host(t, "host2"), outside: net.Host(t, "outside"),
		boxes: map[string]*testhost.Host{}, servers: map[string]*testhost.Process{}, callers: map[string]*caller{}}
	b.wire = record(t, net, b.outside)
	b.boxes["box"] = b.host1.Container(t, "box")
	b.sh(b.boxes["box"], "ip -6 route replace default via "+b.boxes["box"].Addr6.Prev().String())
	for _, h := range []*testhost.Host{b.host1, b.host2, b.outside, b.boxes["box"]} {
		b.sh(h, "ip -4 addr flush scope global")
		h.Addr = h.Addr6 // what the daemon is told
	}
	for _, h := range []*testhost.Host{b.host1, b.host2} {
		b.sh(h, "ip -6 route add default via "+b.outside.Addr6.String())
	}
	b.joinIPv6()
	b.enrolIPv6()
	defer b.table.print(t)
	rows := rowsIPv6()
	b.rows(t, up, rows)
	b.kill(t)
	b.rows(t, killed, rows)
	b.wire.check(t)
}

func (b *bed) joinIPv6() {
	b.t.Helper()
	b.host1.Daemon(b.t, "--bootstrap")
	token := filepath.Join(b.host2.Dir, "token")
	text := b.tacit(b.host1, "token", "create", "--node", "host2", "--service", "db", "--service", "web", "--service", "evil")
	must(b.t, os.WriteFile(token, []byte(text), 0o600))
	b.host2.Daemon(b.t, "--join", b.host1.Addr.String(), "--token-file", token)
}

func (b *bed) enrolIPv6() {
	b.t.Helper()
	for _, h := range []*testhost.Host{b.host1, b.host2} {
		for _, name := range []string{"web", "evil"} {
			b.tacit(h, "run", name, "--", "true")
		}
	}
	b.tacit(b.host1, "service", "register", "app", "--cgroup", b.boxes["box"].CgroupPath("app"))
	b.serve("db", b.host2, "db", "::", servicePort)
	b.serve("plain", b.host2, "", "::", plainPort)
	for _, name := range []string{"web", "app"} {
		b.tacit(b.host1, "intention", "allow", name, "db", "--wait")
	}
	for name, c := range map[string]*caller{
		"web": {host: b.host1, cgroup: "tacit/services/web"}, "evil": {host: b.host1, cgroup: "tacit/services/evil"}, "nobody": {host: b.host1, cgroup: "user"},
		"web2": {host: b.host2, cgroup: "tacit/services/web"}, "evil2": {host: b.host2, cgroup: "tacit/services/evil"}, "nobody2": {host: b.host2, cgroup: "user"},
		"box app": {host: b.boxes["box"], cgroup: "app"}, "box nobody": {host: b.boxes["box"], cgroup: "user"}, "outside": {host: b.outside, cgroup: "user"},
	} {
		b.callers[name] = c
	}
	v4, v6 := b.virtual(b.host1, "db")
	here4, here6 := b.virtual(b.host2, "db")
	b.words = strings.NewReplacer("{v4}", v4, "{v6}", v6, "{here4}", here4, "{here6}", here6, "{known6}", b.host2.Addr6.String(),
		"{port}", fmt.Sprint(servicePort), "{plain}", fmt.Sprint(plainPort))
	for _, from := range []string{"web", "box app"} {
		eventually(b.t, "db answers "+from, "ok", func() string { return b.attempt(from, "WARM", "[{v6}]:{port}", "") })
	}
}

func rowsIPv6() []row {
	const vector = "IPv6 only: "
	ways := []string{"", "nonblock", "fastopen", "mptcp", "ring"}
	rows := cross(vector+"remote", "ok", []string{"web"}, []string{"{v4}", "[{v6}]", "[::ffff:{v4}]", "[{known6}]"}, ways)
	rows = append(rows, cross(vector+"remote", lazy, []string{"evil", "nobody"}, []string{"{v4}", "[{v6}]", "[::ffff:{v4}]", "[{known6}]"}, ways)...)
	rows = append(rows, cross(vector+"remote", lazy, []string{"outside"}, []string{"[{known6}]"}, ways)...)
	rows = append(rows, cross(vector+"same node", "ok", []string{"web2"}, []string{"{here4}", "[{here6}]"}, ways)...)
	rows = append(rows, killedAs("ok", cross(vector+"same node", "ok", []string{"web2"}, []string{"127.0.0.1", "[::1]"}, ways[:2]))...)
	rows = append(rows, killedAs("ok", cross(vector+"same node, real address", "ok", []string{"web2"}, []string{"[{known6}]"}, ways[:2]))...)
	rows = append(rows, cross(vector+"same node", refused, []string{"evil2", "nobody2"}, []string{"{here4}", "[{here6}]", "127.0.0.1", "[::1]", "[{known6}]"}, ways)...)
	rows = append(rows, cross(vector+"container", "ok", []string{"box app"}, []string{"[{v6}]"}, ways)...)
	rows = append(rows, cross(vector+"container", refused, []string{"box nobody"}, []string{"[{v6}]", "[{known6}]"}, ways)...)
	return append(rows, slices.Concat(cross(vector+"datagrams", "sendto: ECONNREFUSED", []string{"web", "box nobody"}, []string{"[{v6}]"}, []string{"udp"}),
		free(cross(vector+"none of the mesh's", "ok", []string{"web", "evil"}, []string{"[{known6}]:{plain}"}, ways[:2])))...)
}

// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tacit/internal/testhost"
)

const (
	servicePort  = 8000
	canaryPrefix = "CANARY."
)

// bed is the mesh of all rows: callers on host1 and host2, the service db on
// host2, a container on host1, and a host outside.
type bed struct {
	t              *testing.T
	host1, host2   *testhost.Host
	outside, box   *testhost.Host
	server         *testhost.Process
	wire           *wire
	words          *strings.Replacer
	tries, reached int
}

// caller is who tries: a cgroup of a host.
type caller struct {
	host   *testhost.Host
	cgroup string
}

// caller names: web is allowed to call db, evil is not, nobody is no workload.
// Of the container, app is allowed and worse isn't.
func (b *bed) caller(t *testing.T, name string) caller {
	t.Helper()
	all := map[string]caller{
		"web": {b.host1, "tacit/services/web"}, "evil": {b.host1, "tacit/services/evil"}, "nobody": {b.host1, "user"},
		"web below": {b.host1, "tacit/services/web/a/b"}, "evil below": {b.host1, "tacit/services/evil/a/b"},
		"web2": {b.host2, "tacit/services/web"}, "evil2": {b.host2, "tacit/services/evil"}, "nobody2": {b.host2, "user"},
		"db": {b.host2, "tacit/services/db"}, "outside": {b.outside, "user"},
		"box app": {b.box, "app"}, "box worse": {b.box, "worse"}, "box nobody": {b.box, "user"},
	}
	c, ok := all[name]
	if !ok {
		t.Fatalf("no caller %q", name)
	}
	return c
}

func newBed(t *testing.T) *bed {
	t.Helper()
	net := testhost.NewNet(t)
	b := &bed{t: t, host1: net.Host(t, "host1"), host2: net.Host(t, "host2"), outside: net.Host(t, "outside")}
	b.wire = record(t, net)
	for _, h := range []*testhost.Host{b.host1, b.host2} { // a wrong packet has somewhere to go
		b.sh(h, fmt.Sprintf("ip route add default via %s; ip -6 route add default via %s", b.outside.Addr, b.outside.Addr6))
	}
	b.host1.Daemon(t, "--bootstrap")
	token := filepath.Join(b.host2.Dir, "token")
	text := b.tacit(b.host1, "token", "create", "--node", "host2", "--service", "db", "--service", "web", "--service", "evil")
	if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.host2.Daemon(t, "--join", b.host1.Addr.String(), "--token-file", token)
	b.box = b.host1.Container(t, "box")
	b.enrol()
	b.sh(b.host2, fmt.Sprintf("ip addr add %s/24 dev eth0; ip addr add %s/64 dev eth0 nodad", second(b.host2.Addr), second(b.host2.Addr6)))
	b.findPlaces()
	return b
}

// second is another address of the same network.
func second(a netip.Addr) netip.Addr {
	bytes := a.AsSlice()
	bytes[len(bytes)-1] = 200
	other, _ := netip.AddrFromSlice(bytes)
	return other
}

// enrol makes the workloads and the intentions, and starts the server.
func (b *bed) enrol() {
	b.t.Helper()
	for _, h := range []*testhost.Host{b.host1, b.host2} {
		for _, name := range []string{"web", "evil"} {
			b.tacit(h, "run", name, "--", "true") // makes the cgroup
		}
	}
	for _, name := range []string{"app", "worse"} {
		b.tacit(b.host1, "service", "register", name, "--cgroup", b.box.CgroupPath(name))
	}
	b.server = b.host2.Start(b.t, "user", b.host2.Bin("tacit"), "run", "db", "--", testhost.Python(),
		b.script("serve.py"), "::", fmt.Sprint(servicePort))
	eventually(b.t, "the server listens", "listening", b.server.Output)
	b.tacit(b.host2, "service", "register", "db", "--port", fmt.Sprint(servicePort))
	for _, name := range []string{"web", "app"} {
		b.tacit(b.host1, "intention", "allow", name, "db", "--wait")
	}
	b.tacit(b.host1, "intention", "deny", "evil", "db", "--wait")
}

// findPlaces fills in what rows write in braces.
func (b *bed) findPlaces() {
	b.t.Helper()
	eventually(b.t, "host1 knows db", `"virtual6"`, func() string {
		out, _ := b.host1.Tacit(b.t, "resolve", "db", "--json")
		return out
	})
	virtual4, virtual6 := b.virtual(b.host1) // each node has numbers of its own
	here4, here6 := b.virtual(b.host2)
	pairs := []string{
		"{v4}", virtual4, "{v6}", virtual6, "{here4}", here4, "{here6}", here6,
		"{host1}", b.host1.Addr.String(), "{outside}", b.outside.Addr.String(),
		"{real4}", b.host2.Addr.String(), "{real6}", b.host2.Addr6.String(),
		"{second4}", second(b.host2.Addr).String(), "{second6}", second(b.host2.Addr6).String(),
		"{port}", fmt.Sprint(servicePort),
	}
	for _, name := range []string{"web", "evil", "nobody"} {
		c := b.caller(b.t, name)
		pairs = append(pairs, "{cgroup "+name+"}", c.host.CgroupPath(c.cgroup))
	}
	b.words = strings.NewReplacer(pairs...)
	b.sh(b.host1, "mkdir -p "+b.host1.CgroupPath("user"))
	for _, way := range [][2]string{ // a container's cgroup is found after its first program, an address when it is proven
		{"web", "{v4}"}, {"box app", "{v4}"}, {"web", "{real4}"}, {"web", "[{real6}]"}, {"web", "{second4}"}, {"web", "[{second6}]"},
	} {
		eventually(b.t, "db answers "+way[0], "ok", func() string { return b.attempt(b.t, way[0], "WARM", way[1]+":{port}", "") })
		b.reached++
	}
}

// virtual are db's virtual addresses on a node.
func (b *bed) virtual(h *testhost.Host) (v4, v6 string) {
	b.t.Helper()
	var db struct{ Virtual4, Virtual6 string }
	if err := json.Unmarshal([]byte(b.tacit(h, "resolve", "db", "--json")), &db); err != nil {
		b.t.Fatal(err)
	}
	return db.Virtual4, db.Virtual6
}

func (b *bed) place(text string) string {
	text = b.words.Replace(text)
	if strings.Contains(text, "{") {
		b.t.Fatalf("no such place: %s", text)
	}
	return text
}

func (b *bed) script(name string) string {
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		b.t.Fatal(err)
	}
	return path
}

// tacit runs the CLI and wants success.
func (b *bed) tacit(h *testhost.Host, args ...string) string {
	b.t.Helper()
	out, exit := h.Tacit(b.t, args...)
	if exit != 0 {
		b.t.Fatalf("%s$ tacit %s: exit %d\n%s", h.Name, strings.Join(args, " "), exit, out)
	}
	return out
}

func (b *bed) sh(h *testhost.Host, line string) {
	b.t.Helper()
	if out, exit := h.Run(b.t, "", "sh", "-ec", line); exit != 0 {
		b.t.Fatalf("%s: %s: exit %d, %s", h.Name, line, exit, out)
	}
}

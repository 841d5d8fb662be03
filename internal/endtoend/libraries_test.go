// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// libraries are the ways of programs to resolve names. {} stands for the names.
type library struct {
	name    string
	command []string
	bare    bool // it resolves names without a dot: by the search list, and then as they are
}

// busybox asks for each name with its own resolver, which asks for names without a
// dot only below the search suffixes. Its other applets use the C library.
const busybox = `for n; do case $n in [0-9]*.*.*.*) a=$(busybox nslookup "$n" | sed -n 's/.*name = //p');;
*) a=$(for t in a aaaa; do busybox nslookup -type=$t "$n" | sed '1,/^$/d' | sed -n 's/^Address: //p' | sort; done);; esac; echo $n $a; done`

// libraries builds the clients that this machine can build; glibc and Go always.
func libraries(t *testing.T, dir string) []library {
	t.Helper()
	out := []library{{name: "glibc", bare: true}, {name: "Go", bare: true}}
	build := func(l *library, source string, compiler ...string) {
		l.command = []string{filepath.Join(dir, "lookup."+l.name)}
		cmd := exec.Command(compiler[0], append(compiler[1:], "-o", l.command[0], source)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", l.name, err, text)
		}
	}
	build(&out[0], "testdata/lookup.c", "gcc")
	build(&out[1], "testdata/lookup/main.go", "go", "build", "-buildvcs=false")
	if _, err := exec.LookPath("musl-gcc"); err == nil {
		musl := library{name: "musl", bare: true}
		build(&musl, "testdata/lookup.c", "musl-gcc", "-static")
		out = append(out, musl)
	}
	if _, err := exec.LookPath("busybox"); err == nil {
		out = append(out, library{name: "busybox", command: []string{"sh", "-c", busybox, "lookup"}})
	}
	return out
}

// The names that every library must resolve alike; the value says to what. $NAME
// are the virtual addresses of a service.
var agreed = []struct{ want, names string }{
	{"$db", "db DB db. db.mesh DB.Mesh db.mesh. db.service.mesh db.virtual.mesh db.service.dc1.mesh db.service.consul db.service.consul. DB.SERVICE.CONSUL " +
		"db.service.dc1.consul db.service.dc1.dc.consul db.virtual.consul db.connect.consul db.connect.dc1.consul " +
		"v1.db.service.consul V1.db.service.dc1.consul v1.db.service.mesh"},
	{"$web", "web web. web.mesh web.service.consul web.service.dc1.consul web.virtual.consul blue.web.service.consul red.web.service.dc1.consul"},
	{"$intranet", "intranet. intranet.mesh intranet.service.consul"},
	{"", "x.mesh x.db.mesh mesh redis.mesh redis.service.mesh service.consul x.db.service.consul canary.web.service.consul host9.node.mesh"},
	{"192.0.2.1", "example.org EXAMPLE.org example.org. www.example.org"},
	{"192.0.2.2", "intranet.corp.example intranet.corp.example."},
	{"192.0.2.9", "c0000209.addr.consul"},
	{"192.0.2.50", "redis.service.consul redis.service.consul. redis.service.dc1.consul v2.redis.service.consul"},
	{"192.0.2.52", "web.service.dc2.consul"},
	{"192.0.2.53", "node7.node.consul"},
	{"192.0.2.54", "search.query.consul"},
	{"", "nothing.service.consul x.redis.service.consul consul nothing.example db.corp.example evil.example"},
	{"one.example.org", "192.0.2.1"},
	{"", "240.64.9.9"},
}

// bySearch are those that the search list decides: what a real zone has comes first.
var bySearch = []struct{ want, names string }{
	{"192.0.2.2", "intranet"}, {"192.0.2.3", "shop"}, {"", "nothing"},
}

// TestLibrariesAgree: programs of every kind get the same answers, whether the
// host's resolver is elsewhere or, like systemd-resolved, a stub on 127.0.0.53.
// Names that the mesh doesn't have come from a real zone and from Consul.
func TestLibrariesAgree(t *testing.T) {
	net := testhost.NewNet(t)
	host, resolver := net.Host(t, "host1"), net.Host(t, "resolver")
	script, err := filepath.Abs("testdata/names.py")
	testhost.Must(t, err)
	remote := resolver.Start(t, "user", testhost.Python(), script, resolver.Addr.String())
	stub := host.Start(t, "stub", testhost.Python(), script, "127.0.0.53")
	const search = "search corp.example other.example\noptions timeout:2 attempts:1\n"
	host.SetResolvConf(t, fmt.Sprintf("nameserver %s\nnameserver 127.0.0.53\n%s", resolver.Addr, search)) // the daemon captures both
	host.Daemon(t, "--bootstrap")
	register := func(args ...string) string {
		out, errs, exit := host.Output(t, "", host.Bin("tacit"), append([]string{"service", "register"}, args...)...)
		if exit != 0 {
			t.Fatalf("register: %s%s", out, errs)
		}
		return errs
	}
	register("db", "--port", "8000", "--cgroup", "/db", "--tag", "v1")
	register("web", "--port", "80", "--cgroup", "/web", "--tag", "blue")
	register("web", "--id", "web2", "--port", "81", "--cgroup", "/web", "--tag", "red")
	if errs := register("intranet", "--port", "8100", "--cgroup", "/x"); !strings.Contains(errs, "intranet.corp.example exists outside of the mesh (192.0.2.2) and stays as it is") {
		t.Errorf("the warning doesn't say what the bare name means: %s", errs)
	}
	for cgroup, ports := range map[string][]string{"db": {"8000"}, "web": {"80", "81"}} { // tags lead to healthy instances only
		for _, port := range ports {
			host.Start(t, cgroup, host.Bin("probe"), "listen", "0.0.0.0:"+port)
		}
	}
	for _, name := range []string{"v1.db.service.consul", "blue.web.service.consul", "red.web.service.consul"} {
		testhost.Eventually(t, 10*time.Second, name, func() error {
			if out, exit := host.TryTacit(t, "resolve", name); exit != 0 {
				return errors.New(out)
			}
			return nil
		})
	}
	want := map[string]string{}
	add := func(list []struct{ want, names string }) (names []string) {
		for _, row := range list {
			for _, name := range strings.Fields(row.names) {
				want[name] = row.want
				if service, ok := strings.CutPrefix(row.want, "$"); ok {
					want[name] = virtualAddresses(t, host, service)
				}
				names = append(names, name)
			}
		}
		return names
	}
	names, searched := add(agreed), add(bySearch)
	for _, service := range []string{"db", "web", "intranet"} {
		addr, _, _ := strings.Cut(virtualAddresses(t, host, service), " ")
		names, want[addr] = append(names, addr), service+".mesh"
	}
	clients := libraries(t, host.Dir)
	look := func(l library, names ...string) {
		t.Helper()
		out, _, exit := host.Output(t, "app", l.command[0], append(slices.Clone(l.command[1:]), names...)...)
		if exit != 0 {
			t.Fatalf("%s: exit %d: %s", l.name, exit, out)
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if len(lines) != len(names) {
			t.Fatalf("%s: %d answers to %d names:\n%s", l.name, len(lines), len(names), out)
		}
		for _, line := range lines {
			name, got, _ := strings.Cut(line, " ")
			if got != want[name] {
				t.Errorf("%s: %s is %q, want %q", l.name, name, got, want[name])
			}
		}
	}
	for _, nameserver := range []string{resolver.Addr.String(), "127.0.0.53"} {
		host.SetResolvConf(t, fmt.Sprintf("nameserver %s\n%s", nameserver, search)) // programs ask one
		for _, l := range clients {
			mine := append(slices.Clone(names), searched...)
			if !l.bare {
				mine = slices.DeleteFunc(mine, func(name string) bool { return !strings.Contains(name, ".") })
			}
			begin := time.Now()
			look(l, mine...)
			t.Logf("%s by %s: %d names in %s", l.name, nameserver, len(mine), time.Since(begin).Round(time.Millisecond))
		}
	}
	if status := host.Tacit(t, "status"); !strings.Contains(status, "refused answers") {
		t.Errorf("status doesn't count the refused answers:\n%s", status)
	}
	for who, output := range map[string]string{"resolver": remote.Output(), "stub": stub.Output()} {
		for line := range strings.Lines(output) {
			name := strings.TrimSpace(strings.TrimPrefix(line, "asked "))
			if strings.HasSuffix(name, ".mesh") || strings.HasPrefix(name, "db.s") || name == "web.service.consul" || strings.HasSuffix(name, ".64.240.in-addr.arpa") {
				t.Errorf("the %s was asked for %s", who, name)
			}
		}
	}
}

// virtualAddresses returns the virtual addresses of a service, as the libraries print them.
func virtualAddresses(t *testing.T, h *testhost.Host, service string) string {
	t.Helper()
	var r struct{ Virtual4, Virtual6 string }
	testhost.Must(t, json.Unmarshal([]byte(h.Tacit(t, "resolve", service+".mesh", "--json")), &r))
	return strings.TrimSpace(r.Virtual4 + " " + r.Virtual6)
}

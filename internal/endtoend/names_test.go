// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestNamesWithoutDaemon: while the daemon is dead, names outside of the mesh
// resolve as they do without tacit, on the host and in a container behind NAT.
// Mesh names don't, and never reach the resolver, which answers every name.
func TestNamesWithoutDaemon(t *testing.T) {
	net := testhost.NewNet(t)
	host, resolver := net.Host(t, "host1"), net.Host(t, "resolver")
	script, err := filepath.Abs("testdata/wildcard.py")
	testhost.Must(t, err)
	wildcard := resolver.Start(t, "user", testhost.Python(), script, resolver.Addr.String())
	conf := fmt.Sprintf("nameserver %s\noptions timeout:1 attempts:1\n", resolver.Addr)
	host.SetResolvConf(t, conf)
	box := host.Container(t, "box")
	box.SetResolvConf(t, conf)
	testhost.Must(t, host.Sysctl("net/ipv4/ip_forward", "1"))
	host.Sh(t, "iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE")
	host.Daemon(t, "--bootstrap")
	host.Tacit(t, "service", "register", "db", "--port", "8000", "--cgroup", "/db")
	before := len(wildcard.Output()) // the daemon has asked what db means outside
	from := map[string]*testhost.Host{"the host": host, "a container": box}
	look := func(h *testhost.Host, name string) string {
		out, _ := h.Run(t, "app", "getent", "ahostsv4", name)
		return strings.Join(strings.Fields(regexp.MustCompile(`(?m)^(\S+).*$`).ReplaceAllString(out, "$1")), " ")
	}
	expect := func(when, name, want string) {
		t.Helper()
		for who, h := range from {
			testhost.Eventually(t, 10*time.Second, when+": "+name+" from "+who, func() error {
				if got := look(h, name); !strings.HasPrefix(got, want) || (want == "") != (got == "") {
					return fmt.Errorf("%q, want %q", got, want)
				}
				return nil
			})
		}
	}
	expect("up", "example.org", "192.0.2.1")
	expect("up", "db.mesh", "240.64.")
	for range 2 {
		host.Kill(t)
		begin := time.Now()
		expect("dead", "example.org", "192.0.2.1")
		t.Logf("names outside of the mesh resolved %v after the crash", time.Since(begin).Round(time.Millisecond))
		for _, name := range []string{"db.mesh", "db", "DB.service.consul", "other.mesh"} {
			expect("dead", name, "")
		}
		host.Daemon(t)
		expect("back", "db.mesh", "240.64.")
		expect("back", "example.org", "192.0.2.1")
	}
	for _, name := range []string{"mesh.", "consul.", "asked db."} {
		if asked := wildcard.Output()[before:]; strings.Contains(asked, name) {
			t.Errorf("the resolver was asked for a mesh name:\n%s", asked)
		}
	}
}

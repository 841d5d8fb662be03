// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestConsulBesides: on a host whose resolver is a Consul agent's, names that the
// mesh has are its own, and all others Consul's, with the daemon and without. The
// mesh's names never reach that resolver. A name works within a second of its
// registration, whatever Consul said before.
func TestConsulBesides(t *testing.T) {
	net := testhost.NewNet(t)
	host, resolver := net.Host(t, "host1"), net.Host(t, "resolver")
	script, err := filepath.Abs("testdata/names.py")
	testhost.Must(t, err)
	agent := resolver.Start(t, "user", testhost.Python(), script, resolver.Addr.String())
	host.SetResolvConf(t, fmt.Sprintf("nameserver %s\noptions timeout:1 attempts:1\n", resolver.Addr))
	host.Daemon(t, "--bootstrap")
	host.Tacit(t, "service", "register", "web", "--port", "80", "--cgroup", "/web", "--tag", "blue")
	host.Start(t, "web", host.Bin("probe"), "listen", "0.0.0.0:80")
	web, _, _ := strings.Cut(virtualAddresses(t, host, "web"), " ")
	expect := func(when string, limit time.Duration, want map[string]string) {
		t.Helper()
		for name, addr := range want {
			testhost.Eventually(t, limit, when+": "+name, func() error {
				out, _ := host.Run(t, "app", "getent", "ahostsv4", name)
				if first, _, _ := strings.Cut(strings.TrimSpace(out), " "); first != addr {
					return fmt.Errorf("%q, want %q", first, addr)
				}
				return nil
			})
		}
	}
	consuls := map[string]string{"redis.service.consul": "192.0.2.50", "v2.redis.service.consul": "192.0.2.50", "node7.node.consul": "192.0.2.53",
		"web.service.dc2.consul": "192.0.2.52", "late.service.consul": "", "late": ""}
	expect("up", 5*time.Second, consuls)
	expect("up", 5*time.Second, map[string]string{"web.service.consul": web, "blue.web.service.consul": web, "canary.web.service.consul": ""})
	host.Tacit(t, "service", "register", "late", "--port", "81", "--cgroup", "/web")
	late, _, _ := strings.Cut(virtualAddresses(t, host, "late"), " ")
	consuls["late.service.consul"], consuls["late"] = late, late
	expect("registered", time.Second, consuls)
	host.Kill(t)
	delete(consuls, "late.service.consul")
	delete(consuls, "late")
	expect("dead", 5*time.Second, consuls)
	expect("dead", 5*time.Second, map[string]string{"web.service.consul": "", "web.service.dc1.consul": "", "blue.web.service.consul": "",
		"canary.web.service.consul": "", "web.connect.consul": "", "late.service.consul": "", "web": "", "web.mesh": ""})
	host.Daemon(t, "--forward-consul=false")
	expect("without forwarding", 5*time.Second, map[string]string{"redis.service.consul": "", "web.service.consul": web, "example.org": "192.0.2.1"})
	asked := agent.Output()
	for _, name := range []string{"web.service.consul", "web.service.dc1.consul", "web.connect.consul", "canary.web", "blue.web", "web.mesh"} {
		if strings.Contains(asked, "asked "+name) {
			t.Errorf("Consul was asked for %s", name)
		}
	}
}

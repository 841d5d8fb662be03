// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestTheWayOfOneConnection is the demo as a test, with Consul's service files and
// stock programs: refused by default, allowed under every name, denied again.
func TestTheWayOfOneConnection(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"service-B"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	define(t, m.Nodes, host1, "service-a", serviceA)
	define(t, m.Nodes, host2, "service-b", serviceB)
	webServer(t, host2, "service-B", "127.0.0.1", 80, "Hello World")

	refused(t, host1, "service-A", "http://service-B/")
	if out, _ := host1.TryTacit(t, "intention", "explain", "service-A", "service-B"); !strings.Contains(out, "default") {
		t.Errorf("explain doesn't name the default: %s", out)
	}
	out := host1.Tacit(t, "intention", "allow", "service-A", "service-B", "--wait")
	if !strings.Contains(out, "in force on 2 of 2 nodes") {
		t.Errorf("allow --wait: %s", out)
	}
	for _, url := range []string{
		"http://service-B/", "http://service-b.mesh/", "http://service-B.service.consul:80/",
		"http://service-b.virtual.consul/", "http://localhost:12000/", "http://127.0.0.1:12000/", "http://[::ffff:127.0.0.1]:12000/",
		"http://" + host2.Addr.String() + "/",
	} {
		answers(t, host1, "service-A", url, "Hello World")
	}
	if out, exit := curl(t, host1, "service-A", "http://service-B/", "-6"); exit != 0 || strings.TrimSpace(out) != "Hello World" {
		t.Errorf("by IPv6: exit %d, %q", exit, out)
	}
	refused(t, host1, "", "http://service-B/")
	refused(t, host1, "", "http://localhost:12000/")
	refused(t, host1, "", "http://"+host2.Addr.String()+"/")

	host1.Tacit(t, "intention", "deny", "service-A", "service-B", "--wait")
	for _, url := range []string{"http://service-B/", "http://localhost:12000/", "http://" + host2.Addr.String() + "/"} {
		refused(t, host1, "service-A", url)
	}
	host1.Tacit(t, "intention", "allow", "service-A", "service-B", "--wait")
	answers(t, host1, "service-A", "http://service-B/", "Hello World")
	for _, host := range m.Nodes {
		if err := contains(host.Tacit(t, "audit", "--kind", "intention"), "operator host1  intention service-a>service-b  allow   deny"); err != nil {
			t.Errorf("audit on %s: %v", host.Name, err)
		}
		if err := contains(host.Tacit(t, "intention", "explain", "service-A", "service-B"), "operator host1"); err != nil {
			t.Errorf("explain on %s: %v", host.Name, err)
		}
	}
	for _, want := range []string{"refused (caller: curl)", "default", "intention", "identity", "out host2", "closed"} {
		if err := contains(host1.Tacit(t, "flows"), want); err != nil {
			t.Errorf("flows: %v", err)
		}
	}
}

// TestAChangeOfMindCutsADownload: a deny ends live connections.
func TestAChangeOfMindCutsADownload(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	dir := webServer(t, host2, "db", "127.0.0.1", 8000, "db")
	host2.Tacit(t, "service", "register", "db", "--port", "8000")
	bigFile(t, dir)
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	becomesReachable(t, host1, "web", "http://db:8000/")

	download := host1.StartAs(t, "web", "curl", "-sS", "-o", "/dev/null", "--limit-rate", "4M", "http://db:8000/big")
	testhost.Eventually(t, 10*time.Second, "the download is running", func() error {
		return contains(host1.Tacit(t, "intention", "explain", "web", "db", "--json"), `"live"`)
	})
	host1.Tacit(t, "intention", "deny", "web", "db", "--wait")
	if exit := download.Wait(t, 5*time.Second); exit == 0 {
		t.Error("the download was completed; the deny should have cut it")
	}
}

// TestTheDestinationGuardsItself: a port is reachable before its service is
// registered, and refuses plain connections afterwards.
func TestTheDestinationGuardsItself(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	outside := m.Host(t, "outside")
	webServer(t, host2, "db", "0.0.0.0", 8080, "plain")
	url := "http://" + host2.Addr.String() + ":8080/"
	answers(t, outside, "", url, "plain")
	answers(t, host1, "", url, "plain")
	_, warned, exit := host2.Output(t, "user", host2.Bin("tacit"), "service", "register", "db", "--port", "8080")
	if exit != 0 || !strings.Contains(warned, "nobody may call db yet") {
		t.Errorf("register: exit %d, and doesn't say that nobody may call: %s", exit, warned)
	}
	refused(t, outside, "", url)
	refused(t, host1, "", url)
	refused(t, host2, "", "http://127.0.0.1:8080/")
	answers(t, host2, "db", "http://127.0.0.1:8080/", "plain") // a service may call itself
}

// TestSameNode: an instance on the caller's own node is reached where that is
// allowed, by every address, and refused after a deny.
func TestSameNode(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{})
	host := m.Nodes[0]
	webServer(t, host, "db", "127.0.0.1", 8000, "here")
	host.Tacit(t, "service", "register", "db", "--port", "8000")
	refused(t, host, "web", "http://db:8000/")
	host.Tacit(t, "intention", "allow", "web", "db", "--wait")
	answers(t, host, "web", "http://db:8000/", "here")
	answers(t, host, "web", "http://db/", "here")
	answers(t, host, "web", "http://127.0.0.1:8000/", "here")
	host.Tacit(t, "intention", "deny", "web", "db", "--wait")
	refused(t, host, "web", "http://db:8000/")
	refused(t, host, "web", "http://127.0.0.1:8000/")
}

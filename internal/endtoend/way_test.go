// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestTheWayOfOneConnection is the demo as a test: Consul's files, stock
// programs, refused, allowed by every name, denied again.
func TestTheWayOfOneConnection(t *testing.T) {
	m := newMesh(t, 2, []string{"service-B"})
	host1, host2 := m.hosts[0], m.hosts[1]
	m.define(host1, "service-a", serviceA)
	m.define(host2, "service-b", serviceB)
	m.web(host2, "service-B", "127.0.0.1", 80, "Hello World")

	m.refused(host1, "service-A", "http://service-B/")
	if out, _ := host1.Tacit(t, "intention", "explain", "service-A", "service-B"); !strings.Contains(out, "default") {
		t.Errorf("explain doesn't name the default: %s", out)
	}
	out := m.tacit(host1, "intention", "allow", "service-A", "service-B", "--wait")
	if !strings.Contains(out, "in force on 2 of 2 nodes") {
		t.Errorf("allow --wait: %s", out)
	}
	for _, url := range []string{
		"http://service-B/", "http://service-b.mesh/", "http://service-B.service.consul:80/",
		"http://service-b.virtual.consul/", "http://localhost:12000/", "http://127.0.0.1:12000/", "http://[::ffff:127.0.0.1]:12000/",
		"http://" + host2.Addr.String() + "/",
	} {
		m.answers(host1, "service-A", url, "Hello World")
	}
	if out, exit := m.curl(host1, "service-A", "http://service-B/", "-6"); exit != 0 || strings.TrimSpace(out) != "Hello World" {
		t.Errorf("by IPv6: exit %d, %q", exit, out)
	}
	m.refused(host1, "", "http://service-B/")
	m.refused(host1, "", "http://localhost:12000/")
	m.refused(host1, "", "http://"+host2.Addr.String()+"/")

	m.tacit(host1, "intention", "deny", "service-A", "service-B", "--wait")
	for _, url := range []string{"http://service-B/", "http://localhost:12000/", "http://" + host2.Addr.String() + "/"} {
		m.refused(host1, "service-A", url)
	}
	m.tacit(host1, "intention", "allow", "service-A", "service-B", "--wait")
	m.answers(host1, "service-A", "http://service-B/", "Hello World")
	for _, want := range []string{"refused to curl", "default", "intention", "identity", "out host2", "closed"} {
		if err := contains(m.tacit(host1, "flows"), want); err != nil {
			t.Errorf("flows: %v", err)
		}
	}
}

// TestAChangeOfMindCutsADownload: live connections end within a second.
func TestAChangeOfMindCutsADownload(t *testing.T) {
	m := newMesh(t, 2, []string{"db"})
	host1, host2 := m.hosts[0], m.hosts[1]
	dir := m.web(host2, "db", "127.0.0.1", 8000, "db")
	m.tacit(host2, "service", "register", "db", "--port", "8000")
	bigFile(t, dir)
	m.tacit(host1, "intention", "allow", "web", "db", "--wait")
	testhost.Eventually(t, 10*time.Second, "db answers", func() error {
		return expect0(m.curl(host1, "web", "http://db:8000/"))
	})

	cmd := host1.Command("user", host1.Bin("tacit"), "--socket", host1.Socket(), "run", "web", "--",
		"curl", "-sS", "-o", "/dev/null", "--limit-rate", "4M", "http://db:8000/big")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	testhost.Eventually(t, 10*time.Second, "the download is live", func() error {
		return contains(m.tacit(host1, "intention", "explain", "web", "db", "--json"), `"live"`)
	})
	m.tacit(host1, "intention", "deny", "web", "db", "--wait")
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the download ended well; it should have been cut")
		}
	case <-time.After(5 * time.Second):
		t.Error("the download lives on 5 s after the deny")
	}
}

// bigFile makes a file, "big", that takes long to fetch.
func bigFile(t *testing.T, dir string) {
	t.Helper()
	write(t, filepath.Join(dir, "big"), "")
	if err := os.Truncate(filepath.Join(dir, "big"), 1<<30); err != nil {
		t.Fatal(err)
	}
}

// TestTheDestinationGuardsItself: reachable before enrolment, refused after.
func TestTheDestinationGuardsItself(t *testing.T) {
	m := newMesh(t, 2, []string{"db"})
	host1, host2 := m.hosts[0], m.hosts[1]
	outside := m.net.Host(t, "outside")
	m.web(host2, "db", "0.0.0.0", 8080, "plain")
	url := "http://" + host2.Addr.String() + ":8080/"
	m.answers(outside, "", url, "plain")
	m.answers(host1, "", url, "plain")
	_, warned, exit := host2.Output(t, "user", host2.Bin("tacit"), "service", "register", "db", "--port", "8080")
	if exit != 0 || !strings.Contains(warned, "nobody may call db yet") {
		t.Errorf("register: exit %d, and doesn't say that nobody may call: %s", exit, warned)
	}
	m.refused(outside, "", url)
	m.refused(host1, "", url)
	m.refused(host2, "", "http://127.0.0.1:8080/")
	m.answers(host2, "db", "http://127.0.0.1:8080/", "plain") // a service may call itself
}

// TestSameNode: an allowed instance on the caller's node is reached directly,
// and the pair is cut when policy changes.
func TestSameNode(t *testing.T) {
	m := newMesh(t, 1)
	host := m.hosts[0]
	m.web(host, "db", "127.0.0.1", 8000, "here")
	m.tacit(host, "service", "register", "db", "--port", "8000")
	m.refused(host, "web", "http://db:8000/")
	m.tacit(host, "intention", "allow", "web", "db", "--wait")
	m.answers(host, "web", "http://db:8000/", "here")
	m.answers(host, "web", "http://db/", "here")
	m.answers(host, "web", "http://127.0.0.1:8000/", "here")
	m.tacit(host, "intention", "deny", "web", "db", "--wait")
	m.refused(host, "web", "http://db:8000/")
	m.refused(host, "web", "http://127.0.0.1:8000/")
}

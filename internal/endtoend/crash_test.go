// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestKilledDaemonLeavesTheMeshClosed: denied stays denied, mesh addresses
// refuse, names outside resolve as before, and a restart brings all of it back.
func TestKilledDaemonLeavesTheMeshClosed(t *testing.T) {
	m := newMesh(t, 1)
	host2 := m.join("host2", "db")
	host1 := m.hosts[0]
	m.web(host2, "db", "0.0.0.0", 8000, "db")
	m.tacit(host2, "service", "register", "db", "--port", "8000")
	m.tacit(host1, "intention", "allow", "web", "db", "--wait")
	testhost.Eventually(t, 10*time.Second, "db answers", func() error {
		return expect0(m.curl(host1, "web", "http://db:8000/"))
	})
	virtual := virtualOf(t, m.tacit(host1, "resolve", "db", "--json"))

	host1.Kill(t)
	// `tacit run` needs the daemon; a process that is in the workload already doesn't.
	out, exit := host1.Run(t, "tacit/services/web", "curl", "-sS", "-v", "--max-time", "5", "http://"+virtual+":8000/")
	if exit != 7 {
		t.Errorf("daemon dead: exit %d, want 7 (refused)\n%s", exit, out)
	}
	out, exit = host1.Run(t, "user", "curl", "-sS", "-v", "--max-time", "5", "http://"+host2.Addr.String()+":8000/")
	if exit != 7 {
		t.Errorf("daemon dead, plain caller: exit %d, want 7\n%s", exit, out)
	}
	host2.Kill(t)
	outside := m.net.Host(t, "outside")
	m.refused(outside, "", "http://"+host2.Addr.String()+":8000/")

	host1.Daemon(t)
	host2.Daemon(t)
	testhost.Eventually(t, 10*time.Second, "db answers again", func() error {
		return expect0(m.curl(host1, "web", "http://db:8000/"))
	})
}

// TestCleanupLeavesNothing compares routes, rules, chains and pins.
func TestCleanupLeavesNothing(t *testing.T) {
	net := testhost.NewNet(t)
	host := net.Host(t, "host1")
	before := host.Snapshot(t)
	host.Daemon(t, "--bootstrap")
	if out, exit := host.Run(t, "user", host.Bin("tacitd"), append([]string{"cleanup"}, host.Flags()...)...); exit == 0 || !strings.Contains(out, "stop it first") {
		t.Errorf("cleanup under a running daemon: exit %d, %s", exit, out)
	}
	host.Stop(t)
	if during := host.Snapshot(t); during == before {
		t.Error("a stopped daemon left nothing in force: the mesh is open")
	}
	for range 2 { // twice is once
		if out, exit := host.Run(t, "user", host.Bin("tacitd"), append([]string{"cleanup"}, host.Flags()...)...); exit != 0 {
			t.Fatalf("cleanup: exit %d\n%s", exit, out)
		}
	}
	if after := host.Snapshot(t); after != before {
		t.Errorf("left behind:\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// TestRedirectSockets: the hooks alone, and no chain in the firewall.
func TestRedirectSockets(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	host.Daemon(t, "--bootstrap", "--redirect", "sockets")
	if out, _ := host.Run(t, "user", "iptables-save"); strings.Contains(out, "TACIT") {
		t.Errorf("chains in spite of --redirect sockets:\n%s", out)
	}
	if out, exit := host.Tacit(t, "status"); exit != 0 {
		t.Errorf("status: exit %d\n%s", exit, out)
	}
}

// TestGuardClosesABoot: a reboot takes pins, rules and routes; the guard brings
// them back before the daemon is there, which then takes over.
func TestGuardClosesABoot(t *testing.T) {
	m := newMesh(t, 1)
	host := m.hosts[0]
	outside := m.net.Host(t, "outside")
	m.web(host, "db", "0.0.0.0", 8000, "db")
	m.tacit(host, "service", "register", "db", "--port", "8000")
	url := "http://" + host.Addr.String() + ":8000/"
	m.refused(outside, "", url)
	if out, exit := host.Tacitd(t, "guard"); exit == 0 || !strings.Contains(out, "in use by another tacitd") {
		t.Errorf("guard under a running daemon: exit %d, %s", exit, out)
	}

	host.Kill(t)
	if out, exit := host.Tacitd(t, "cleanup"); exit != 0 { // as a reboot would
		t.Fatalf("cleanup: %s", out)
	}
	m.answers(outside, "", url, "db")
	out, exit := host.Tacitd(t, "guard")
	if exit != 0 || !strings.Contains(out, "closed: port 8000 of db") {
		t.Fatalf("guard: exit %d, %s", exit, out)
	}
	m.refused(outside, "", url)
	m.refused(host, "", "http://127.0.0.1:8000/")
	m.refused(host, "", "http://240.64.0.9:8000/")

	host.Daemon(t)
	m.refused(outside, "", url)
	m.tacit(host, "intention", "allow", "web", "db", "--wait")
	testhost.Eventually(t, 10*time.Second, "db answers", func() error { return expect0(m.curl(host, "web", "http://db:8000/")) })
}

func virtualOf(t *testing.T, text string) string {
	t.Helper()
	r := jsonOf[struct {
		Virtual4 string `json:"virtual4"`
	}](t, text)
	if r.Virtual4 == "" {
		t.Fatalf("no virtual address in %s", text)
	}
	return r.Virtual4
}

func expect0(out string, exit int) error {
	if exit != 0 {
		return fmt.Errorf("exit %d: %s", exit, out)
	}
	return nil
}

func contains(out, want string) error {
	if !strings.Contains(out, want) {
		return fmt.Errorf("no %q in %s", want, out)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"strings"
	"testing"

	"tacit/internal/testhost"
)

// TestKilledDaemonLeavesTheMeshClosed: denied stays denied, virtual addresses
// refuse, and a restart brings the service back.
func TestKilledDaemonLeavesTheMeshClosed(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	webServer(t, host2, "db", "0.0.0.0", 8000, "db")
	host2.Tacit(t, "service", "register", "db", "--port", "8000")
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	becomesReachable(t, host1, "web", "http://db:8000/")
	virtual, _ := host1.Virtual(t, "db")

	host1.Kill(t)
	// `tacit run` needs the daemon; a program that starts in the workload's cgroup doesn't.
	out, exit := host1.Run(t, testhost.WorkloadCgroup("web"), "curl", "-sS", "-v", "--max-time", "5", "http://"+virtual.String()+":8000/")
	if exit != 7 {
		t.Errorf("daemon dead: exit %d, want 7 (refused)\n%s", exit, out)
	}
	out, exit = host1.Run(t, "user", "curl", "-sS", "-v", "--max-time", "5", "http://"+host2.Addr.String()+":8000/")
	if exit != 7 {
		t.Errorf("daemon dead, plain caller: exit %d, want 7\n%s", exit, out)
	}
	host2.Kill(t)
	outside := m.Host(t, "outside")
	refused(t, outside, "", "http://"+host2.Addr.String()+":8000/")

	host1.Daemon(t)
	host2.Daemon(t)
	becomesReachable(t, host1, "web", "http://db:8000/")
}

// TestCleanupLeavesNothing compares routes, rules, chains and pins.
func TestCleanupLeavesNothing(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	before := host.Snapshot(t)
	host.Daemon(t, "--bootstrap")
	if out, exit := host.Tacitd(t, "cleanup"); exit == 0 || !strings.Contains(out, "stop it first") {
		t.Errorf("cleanup beside a running daemon: exit %d, %s", exit, out)
	}
	host.Stop(t)
	if during := host.Snapshot(t); during == before {
		t.Error("a stopped daemon left nothing in force, so that the mesh is open")
	}
	for range 2 { // the second one finds nothing to do
		if out, exit := host.Tacitd(t, "cleanup"); exit != 0 {
			t.Fatalf("cleanup: exit %d\n%s", exit, out)
		}
	}
	if after := host.Snapshot(t); after != before {
		t.Errorf("left behind:\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// TestRedirectSockets: with --redirect sockets there are hooks and no netfilter chains.
func TestRedirectSockets(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	host.Daemon(t, "--bootstrap", "--redirect", "sockets")
	if out, _ := host.Run(t, "user", "iptables-save"); strings.Contains(out, "TACIT") {
		t.Errorf("chains although --redirect sockets:\n%s", out)
	}
	if out, exit := host.TryTacit(t, "status"); exit != 0 {
		t.Errorf("status: exit %d\n%s", exit, out)
	}
}

// TestGuardClosesABoot: a reboot removes pins, rules and routes; `tacitd guard`
// closes the ports before the daemon runs, which then takes over.
func TestGuardClosesABoot(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{})
	host := m.Nodes[0]
	outside := m.Host(t, "outside")
	webServer(t, host, "db", "0.0.0.0", 8000, "db")
	host.Tacit(t, "service", "register", "db", "--port", "8000")
	url := "http://" + host.Addr.String() + ":8000/"
	refused(t, outside, "", url)
	if out, exit := host.Tacitd(t, "guard"); exit == 0 || !strings.Contains(out, "in use by another tacitd") {
		t.Errorf("guard beside a running daemon: exit %d, %s", exit, out)
	}

	host.Kill(t)
	if out, exit := host.Tacitd(t, "cleanup"); exit != 0 { // removes what a reboot removes
		t.Fatalf("cleanup: %s", out)
	}
	answers(t, outside, "", url, "db")
	out, exit := host.Tacitd(t, "guard")
	if exit != 0 || !strings.Contains(out, "closed: port 8000 of db") {
		t.Fatalf("guard: exit %d, %s", exit, out)
	}
	refused(t, outside, "", url)
	refused(t, host, "", "http://127.0.0.1:8000/")
	refused(t, host, "", "http://240.64.0.9:8000/")

	host.Daemon(t)
	refused(t, outside, "", url)
	host.Tacit(t, "intention", "allow", "web", "db", "--wait")
	becomesReachable(t, host, "web", "http://db:8000/")
}

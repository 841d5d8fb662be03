// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// checkedWeb has a check of every kind that reaches something. Of db, which has
// no check, only the port is named.
const checkedWeb = `
service {
  name = "web"
  port = 8080
  token = "secret"
  checks = [
    { id = "port",   tcp = "", interval = "1s" },
    { id = "page",   http = "http://localhost:8080/index.html", interval = "1s" },
    { id = "ready",  http = "/ready", interval = "1s" },
    { id = "script", args = ["curl", "-sS", "--max-time", "2", "-o", "/dev/null", "http://127.0.0.1:8080/"], interval = "1s" },
    { id = "db",     http = "http://localhost:9090/", interval = "1s" },
    { id = "dbcurl", args = ["curl", "-sS", "--max-time", "2", "http://127.0.0.1:9090/"], interval = "1s" },
    { id = "far",    args = ["curl", "-sS", "--max-time", "2", "http://far.mesh/"], interval = "1s" },
    { id = "batch",  ttl = "1m" },
  ]
}
service {
  name = "db"
  port = 9090
}
service {
  name = "follower"
  check { alias_service = "web" }
}
`

// shown is what tacit service show --json says about checks.
type shown struct {
	Instances []struct {
		Checks []struct{ ID, Kind, Status, Output, Source string }
	}
}

// statuses are the checks of a service on this node, as "id=status".
func statuses(t *testing.T, h *testhost.Host, service string) map[string]string {
	t.Helper()
	var s shown
	testhost.Must(t, json.Unmarshal([]byte(h.Tacit(t, "service", "show", service, "--json")), &s))
	out := map[string]string{}
	for _, i := range s.Instances {
		for _, c := range i.Checks {
			out[c.ID] = c.Status + " " + c.Output
		}
	}
	return out
}

// become waits until each check's status and output begin with what is wanted.
func become(t *testing.T, h *testhost.Host, service string, want map[string]string) {
	t.Helper()
	testhost.Eventually(t, 15*time.Second, "checks of "+service, func() error {
		got := statuses(t, h, service)
		for id, text := range want {
			if !strings.HasPrefix(got[id], text) {
				return fmt.Errorf("%s: %q, want %q", id, got[id], text)
			}
		}
		return nil
	})
}

// TestHealthChecks: checks reach the closed port of their own service on this
// node and nothing else of the mesh, nobody else gets in by that way, and a
// check that fails shows.
func TestHealthChecks(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"far"}, Flags: []string{"--domain", "mesh"}})
	host, other := m.Nodes[0], m.Nodes[1]
	testhost.WriteFile(t, filepath.Join(host.Services, "web.hcl"), checkedWeb)
	define(t, m.Nodes, other, "far", `{"service": {"name": "far", "port": 80}}`)
	webServer(t, other, "far", "127.0.0.1", 80, "far")
	dir := webServer(t, host, "web", "127.0.0.1", 8080, "web")
	webServer(t, host, "db", "127.0.0.1", 9090, "db")
	host.Tacit(t, "intention", "allow", "*", "far", "--wait")

	become(t, host, "web", map[string]string{
		"port": "passing 127.0.0.1:8080: connected", "page": "passing web", "script": "passing", "ready": "critical <!DOCTYPE", // python's page of a 404
		"db": "critical Get \"http://localhost:9090/\": dial tcp 127.0.0.1:9090: connect: connection refused", "dbcurl": "critical curl: (7)",
		"far": "critical curl: (", "batch": "critical",
	})
	refused(t, host, "", "http://127.0.0.1:8080/")
	refused(t, host, "db", "http://127.0.0.1:8080/")
	answers(t, host, "db", "http://far.mesh/", "far") // by the rule that the script's call is refused in spite of
	if text := host.Tacit(t, "service", "show", "web"); !strings.Contains(text, "critical") || !strings.Contains(text, "web.hcl:9: GET http://127.0.0.1:8080/ready: 404") ||
		!strings.Contains(text, "web.hcl:5: service.token: there are no ACL tokens") {
		t.Errorf("tacit service show web:\n%s", text)
	}
	become(t, host, "follower", map[string]string{"service:follower": "critical web: check "})

	testhost.WriteFile(t, filepath.Join(dir, "ready"), "yes")
	host.Tacit(t, "service", "check", "pass", "batch", "--note", "42 rows")
	become(t, host, "web", map[string]string{"ready": "passing yes", "batch": "passing 42 rows"})

	procs, err := os.ReadFile(host.CgroupPath(testhost.WorkloadCgroup("web") + "/cgroup.procs"))
	testhost.Must(t, err)
	host.Sh(t, "kill "+strings.Join(strings.Fields(string(procs)), " "))
	become(t, host, "web", map[string]string{"port": "critical nobody listens on port 8080 of web", "page": "critical", "script": "critical curl: (7)"})
	host.Stop(t)
	host.Tacitd(t, append([]string{"cleanup"}, host.Flags()...)...)
	if _, err := os.Stat(host.CgroupPath("tacit/checks")); err == nil {
		t.Error("cleanup leaves the cgroup of the scripts")
	}
}

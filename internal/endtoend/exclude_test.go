// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestAServicesPortIsNotExcluded: the command that registers a service on an
// excluded port is refused, a file is reported with both places, and the port is
// closed to plain connections.
func TestAServicesPortIsNotExcluded(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	config := filepath.Join(host.Dir, "tacitd.hcl")
	testhost.WriteFile(t, config, "exclude {\n  ports = [8000, 9100]\n}\n")
	host.Daemon(t, "--bootstrap", "--config", config)
	place := config + ":2: exclude.ports"
	if out, exit := host.TryTacit(t, "service", "register", "db", "--port", "8000"); exit != 1 || !strings.Contains(out, place) {
		t.Errorf("register: exit %d, %s", exit, out)
	}
	file := filepath.Join(host.Services, "db.hcl")
	testhost.WriteFile(t, file, "service {\n  name = \"db\"\n  port = 8000\n}\n")
	testhost.Eventually(t, 10*time.Second, "status names both places", func() error {
		out, _, _ := host.Output(t, "user", host.Bin("tacit"), "status", "--json")
		if err := contains(out, file+":1"); err != nil {
			return err
		}
		return contains(out, place)
	})
	host.Start(t, "user", testhost.Python(), "-m", "http.server", "8000")
	outside := host.Net().Host(t, "outside")
	out, exit := outside.Run(t, "user", "curl", "-sS", "-v", "--max-time", "10", "http://"+host.Addr.String()+":8000/")
	if exit != 7 || !strings.Contains(out, "refused") {
		t.Errorf("an excluded port of a service: exit %d, %s", exit, out)
	}
}

// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestCertificatesAreRenewed: a connection outlives several generations of
// leaves, and new ones go on without a pause.
func TestCertificatesAreRenewed(t *testing.T) {
	m := newMeshWith(t, 2, []string{"--leaf-ttl", "8s"}, []string{"db"})
	host1, host2 := m.hosts[0], m.hosts[1]
	dir := m.web(host2, "db", "127.0.0.1", 8000, "db")
	bigFile(t, dir)
	m.tacit(host2, "service", "register", "db", "--port", "8000")
	m.tacit(host1, "intention", "allow", "web", "db", "--wait")
	testhost.Eventually(t, 10*time.Second, "db answers", func() error { return expect0(m.curl(host1, "web", "http://db:8000/")) })
	live := host1.Start(t, "user", host1.Bin("tacit"), "run", "web", "--", "curl", "-sS", "--limit-rate", "1M", "-o", "/dev/null", "http://db:8000/big")

	first := m.certificates(host2)
	testhost.Eventually(t, 30*time.Second, "two more generations", func() error {
		out, exit := m.curl(host1, "web", "http://db:8000/")
		if exit != 0 {
			t.Errorf("a call failed during renewal: exit %d, %s", exit, out)
		}
		if now := m.certificates(host2); now.Sub(first) < 9*time.Second {
			return fmt.Errorf("the oldest certificate of host2 ends at %s", now)
		}
		return nil
	})
	select {
	case <-live.Ended():
		t.Errorf("the long download ended: %s", live.Output())
	default:
	}
}

// certificates returns when the first of a node's certificates ends.
func (m *mesh) certificates(h *testhost.Host) time.Time {
	m.t.Helper()
	status := jsonOf[struct {
		Certificates []struct {
			NotAfter time.Time `json:"not_after"`
		}
	}](m.t, m.tacit(h, "status", "--json"))
	if len(status.Certificates) != 2 {
		m.t.Fatalf("%d certificates, want the node's and the service's", len(status.Certificates))
	}
	end := status.Certificates[0].NotAfter
	if other := status.Certificates[1].NotAfter; other.Before(end) {
		end = other
	}
	return end
}

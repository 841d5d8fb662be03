// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestCertificatesAreRenewed: an open connection survives several renewals of the
// leaf certificates, and new connections succeed all the time.
func TestCertificatesAreRenewed(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, First: []string{"--leaf-ttl", "8s"}, Grants: []string{"db"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	dir := webServer(t, host2, "db", "127.0.0.1", 8000, "db")
	bigFile(t, dir)
	host2.Tacit(t, "service", "register", "db", "--port", "8000")
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	becomesReachable(t, host1, "web", "http://db:8000/")
	live := host1.StartAs(t, "web", "curl", "-sS", "--limit-rate", "1M", "-o", "/dev/null", "http://db:8000/big")

	first := firstExpiry(t, host2)
	testhost.Eventually(t, 30*time.Second, "two more generations", func() error {
		out, exit := curl(t, host1, "web", "http://db:8000/")
		if exit != 0 {
			t.Errorf("a call failed during renewal: exit %d, %s", exit, out)
		}
		if now := firstExpiry(t, host2); now.Sub(first) < 9*time.Second {
			return fmt.Errorf("the first certificate of host2 to expire does so at %s", now)
		}
		return nil
	})
	select {
	case <-live.Ended():
		t.Errorf("the long download ended: %s", live.Output())
	default:
	}
}

// firstExpiry is when the first of a node's certificates expires.
func firstExpiry(t *testing.T, h *testhost.Host) time.Time {
	t.Helper()
	status := jsonOf[struct {
		Certificates []struct {
			NotAfter time.Time `json:"not_after"`
		}
	}](t, h.Tacit(t, "status", "--json"))
	if len(status.Certificates) != 2 {
		t.Fatalf("%d certificates, want the node's and the service's", len(status.Certificates))
	}
	end := status.Certificates[0].NotAfter
	if other := status.Certificates[1].NotAfter; other.Before(end) {
		end = other
	}
	return end
}

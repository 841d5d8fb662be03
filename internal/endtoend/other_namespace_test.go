// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestAnotherNamespace: a program in a container's situation, whose traffic
// arrives by veth, makes the same call under the same intentions.
func TestAnotherNamespace(t *testing.T) {
	m := newMesh(t, 2, []string{"service-B"})
	host1, host2 := m.hosts[0], m.hosts[1]
	m.define(host2, "service-b", serviceB)
	m.web(host2, "service-B", "127.0.0.1", 80, "Hello World")
	box := host1.Container(t, "box")
	m.tacit(host1, "service", "register", "service-A", "--cgroup", box.CgroupPath("app"))
	call := func() (string, int) {
		return box.Run(t, "app", "curl", "-sS", "--max-time", "10", "http://service-B/")
	}
	if out, exit := call(); exit != 7 {
		t.Fatalf("nobody may call yet: exit %d, %s", exit, out)
	}
	m.tacit(host1, "intention", "allow", "service-A", "service-B", "--wait")
	testhost.Eventually(t, 10*time.Second, "the container's call answers", func() error { return expect0(call()) })
	m.tacit(host1, "intention", "deny", "service-A", "service-B", "--wait")
	if out, exit := call(); exit != 7 {
		t.Fatalf("denied: exit %d, %s", exit, out)
	}
	// no identity at all: accepted at most, and reset before any byte
	if out, exit := box.Run(t, "other", "curl", "-sS", "--max-time", "10", "http://service-B/"); exit == 0 {
		t.Fatalf("a program without identity was answered: %s", out)
	}
}

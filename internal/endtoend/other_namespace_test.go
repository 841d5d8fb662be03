// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestAnotherNamespace: a program in a container, whose packets arrive by veth,
// calls under the same intentions as a program of the host.
func TestAnotherNamespace(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"service-B"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	define(t, m.Nodes, host2, "service-b", serviceB)
	webServer(t, host2, "service-B", "127.0.0.1", 80, "Hello World")
	box := host1.Container(t, "box")
	host1.Tacit(t, "service", "register", "service-A", "--cgroup", box.CgroupPath("app"))
	call := func() (string, int) {
		return box.Run(t, "app", "curl", "-sS", "--max-time", "10", "http://service-B/")
	}
	if out, exit := call(); exit != 7 {
		t.Fatalf("nobody may call yet: exit %d, %s", exit, out)
	}
	host1.Tacit(t, "intention", "allow", "service-A", "service-B", "--wait")
	testhost.Eventually(t, 10*time.Second, "the container's call answers", func() error { return succeeded(call()) })
	host1.Tacit(t, "intention", "deny", "service-A", "service-B", "--wait")
	if out, exit := call(); exit != 7 {
		t.Fatalf("denied: exit %d, %s", exit, out)
	}
	// a program without identity may be accepted and then reset, but gets no byte
	if out, exit := box.Run(t, "other", "curl", "-sS", "--max-time", "10", "http://service-B/"); exit == 0 {
		t.Fatalf("a program without identity was answered: %s", out)
	}
}

// TestGuest: a guest whose programs no hook sees is identified by the interface
// that leads to it, and refused where it is no workload's or denied.
func TestGuest(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"service-B"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	define(t, m.Nodes, host2, "service-b", serviceB)
	webServer(t, host2, "service-B", "127.0.0.1", 80, "Hello World")
	one, two, nobody := host1.Guest(t, "one"), host1.Guest(t, "two"), host1.Guest(t, "nobody")
	inside := one.Start(t, "", "sleep", "600") // the daemon finds the guest's namespace by this process
	host1.Tacit(t, "service", "register", "guest-1", "--netns", fmt.Sprintf("/proc/%d/ns/net", inside.PID()))
	host1.Tacit(t, "service", "register", "guest-2", "--interface", "box2")
	for _, name := range []string{"guest-1", "guest-2"} {
		host1.Tacit(t, "intention", "allow", name, "service-B", "--wait")
	}
	call := func(guest *testhost.Host, more ...string) (string, int) {
		return guest.Run(t, "", "curl", append([]string{"-sS", "--max-time", "10", "http://service-B/"}, more...)...)
	}
	for _, guest := range []*testhost.Host{one, two} {
		for _, family := range []string{"-4", "-6"} {
			testhost.Eventually(t, 10*time.Second, guest.Name+"'s call answers", func() error { return succeeded(call(guest, family)) })
		}
	}
	flows := host1.Tacit(t, "flows")
	for _, name := range []string{"guest-1", "guest-2"} {
		if !strings.Contains(flows, name) {
			t.Errorf("no flow of %s:\n%s", name, flows)
		}
	}
	host1.Tacit(t, "intention", "deny", "guest-1", "service-B", "--wait")
	for _, guest := range []*testhost.Host{one, nobody} {
		if out, exit := call(guest); exit == 0 {
			t.Errorf("%s was answered: %s", guest.Name, out)
		}
	}
	if out, exit := call(two); exit != 0 {
		t.Errorf("%s after another was denied: %s", two.Name, out)
	}
}

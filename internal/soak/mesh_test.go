// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// mesh is two nodes; host1 holds the operator key.
type mesh struct {
	t            *testing.T
	net          *testhost.Net
	host1, host2 *testhost.Host
}

// newMesh starts both; prepare, which may be nil, is told of each host before
// its daemon is started. host2 may run the services granted.
func newMesh(t *testing.T, net *testhost.Net, prepare func(*testhost.Host), granted ...string) *mesh {
	t.Helper()
	m := &mesh{t: t, net: net, host1: net.Host(t, "host1"), host2: net.Host(t, "host2")}
	if prepare != nil {
		prepare(m.host1)
		prepare(m.host2)
	}
	m.host1.Daemon(t, "--bootstrap", "--log-level", "warn")
	args := []string{"token", "create", "--node", "host2"}
	for _, s := range granted {
		args = append(args, "--service", s)
	}
	token := filepath.Join(m.host2.Dir, "token")
	write(t, token, m.tacit(m.host1, args...))
	m.host2.Daemon(t, "--join", m.host1.Addr.String(), "--token-file", token, "--log-level", "warn")
	return m
}

// tacit runs the CLI and wants success.
func (m *mesh) tacit(h *testhost.Host, args ...string) string {
	m.t.Helper()
	out, errs, exit := h.Output(m.t, "user", h.Bin("tacit"), args...)
	if exit != 0 {
		m.t.Fatalf("%s$ tacit %s: exit %d\n%s%s", h.Name, strings.Join(args, " "), exit, out, errs)
	}
	return out
}

// workload makes the cgroup of a service on a host.
func (m *mesh) workload(h *testhost.Host, name string) {
	m.t.Helper()
	m.tacit(h, "run", name, "--", "true")
}

// server starts one of ours as a service, and registers its port.
func (m *mesh) server(h *testhost.Host, name string, port int, binds ...string) *testhost.Process {
	m.t.Helper()
	words := []string{"serve"}
	for _, b := range binds {
		words = append(words, fmt.Sprintf("%s:%d", b, port))
	}
	p := h.Start(m.t, "user", h.Bin("tacit"), append([]string{"run", name, "--"}, program(m.t, words...)...)...)
	eventually(m.t, name+" listens", "listening", p.Output)
	m.tacit(h, "service", "register", name, "--port", fmt.Sprint(port))
	return p
}

// virtual waits until a host knows an instance of a service, and returns its
// virtual addresses there.
func (m *mesh) virtual(h *testhost.Host, name string) (v4, v6 netip.Addr) {
	m.t.Helper()
	var r struct {
		Virtual4, Virtual6 netip.Addr
		Instances          []any
	}
	testhost.Eventually(m.t, 20*time.Second, h.Name+" knows "+name, func() error {
		out, _ := h.Tacit(m.t, "resolve", name, "--json")
		if err := json.Unmarshal([]byte(out), &r); err != nil || !r.Virtual4.IsValid() {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	})
	return r.Virtual4, r.Virtual6
}

// start starts a caller in a cgroup of a host.
func (m *mesh) start(h *testhost.Host, cgroup string, p plan) *testhost.Process {
	m.t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		m.t.Fatal(err)
	}
	file := filepath.Join(h.Dir, fmt.Sprintf("plan-%s-%d.json", p.Name, time.Now().UnixNano()))
	write(m.t, file, string(text))
	words := program(m.t, "call", file)
	return h.Start(m.t, cgroup, words[0], words[1:]...)
}

func (m *mesh) sh(h *testhost.Host, line string) string {
	m.t.Helper()
	out, exit := h.Run(m.t, "user", "sh", "-ec", line)
	if exit != 0 {
		m.t.Fatalf("%s: %s: exit %d, %s", h.Name, line, exit, out)
	}
	return out
}

func cgroupOf(service string) string { return "tacit/services/" + service }

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

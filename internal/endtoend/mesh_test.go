// SPDX-License-Identifier: Apache-2.0

// Package endtoend runs the real daemon, the real CLI and stock programs on
// hosts made of namespaces, and reads like the README. It must not look inside
// a room: what a user can't see isn't asked here.
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

const (
	serviceA = `{"services":[{"name":"service-A","port":80,"connect":{"proxy":{"config":{"upstreams":[{"destination_name":"service-B","local_bind_port":12000}]}}}}]}`
	serviceB = `{"services":[{"name":"service-B","port":80,"connect":{"proxy":{}}}]}`
)

// mesh is hosts that are members of one mesh; host1 is the authority and
// holds the operator key.
type mesh struct {
	t     *testing.T
	net   *testhost.Net
	hosts []*testhost.Host
}

// newMesh starts n nodes; grants[i] are the services that host i+2 may run.
func newMesh(t *testing.T, n int, grants ...[]string) *mesh {
	t.Helper()
	return newMeshWith(t, n, nil, grants...)
}

// newMeshWith gives the first node more flags.
func newMeshWith(t *testing.T, n int, bootstrap []string, grants ...[]string) *mesh {
	t.Helper()
	m := &mesh{t: t, net: testhost.NewNet(t)}
	first := m.net.Host(t, "host1")
	first.Daemon(t, append([]string{"--bootstrap"}, bootstrap...)...)
	m.hosts = []*testhost.Host{first}
	for i := 2; i <= n; i++ {
		var services []string
		if len(grants) > i-2 {
			services = grants[i-2]
		}
		m.join(fmt.Sprintf("host%d", i), services...)
	}
	testhost.Eventually(t, 10*time.Second, "all nodes alive", func() error {
		out := m.tacit(first, "nodes", "--json")
		if got := strings.Count(out, `"alive": true`); got != n {
			return fmt.Errorf("%d of %d alive: %s", got, n, out)
		}
		return nil
	})
	return m
}

func (m *mesh) join(name string, services ...string) *testhost.Host {
	m.t.Helper()
	h := m.net.Host(m.t, name)
	args := []string{"token", "create", "--node", name}
	for _, s := range services {
		args = append(args, "--service", s)
	}
	file := filepath.Join(h.Dir, "token")
	write(m.t, file, m.tacit(m.hosts[0], args...))
	h.Daemon(m.t, "--join", m.hosts[0].Addr.String(), "--token-file", file)
	m.hosts = append(m.hosts, h)
	return h
}

// tacit runs the CLI and wants success.
func (m *mesh) tacit(h *testhost.Host, args ...string) string {
	m.t.Helper()
	out, exit := h.Tacit(m.t, args...)
	if exit != 0 {
		m.t.Fatalf("%s$ tacit %s: exit %d\n%s", h.Name, strings.Join(args, " "), exit, out)
	}
	return out
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// define puts a service file into a host's folder and waits until every host
// knows the service.
func (m *mesh) define(h *testhost.Host, name, text string) {
	m.t.Helper()
	write(m.t, filepath.Join(h.Services, name+".json"), text)
	for _, other := range m.hosts {
		testhost.Eventually(m.t, 10*time.Second, name+" known on "+other.Name, func() error {
			if out, exit := other.Tacit(m.t, "service", "show", name); exit != 0 {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
}

// web starts a stock web server as a workload; it answers body.
func (m *mesh) web(h *testhost.Host, service, bind string, port int, body string) string {
	m.t.Helper()
	dir := m.t.TempDir()
	write(m.t, filepath.Join(dir, "index.html"), body)
	args := []string{"--socket", h.Socket(), "run", service, "--", testhost.Python(), "-m", "http.server", fmt.Sprint(port),
		"--bind", bind, "--directory", dir}
	cmd := h.Command("user", h.Bin("tacit"), args...)
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	testhost.Eventually(m.t, 10*time.Second, "web server on "+h.Name, func() error {
		out, _ := h.Run(m.t, "user", "ss", "-Hltn", fmt.Sprintf("sport = :%d", port))
		if !strings.Contains(out, fmt.Sprintf(":%d", port)) {
			return fmt.Errorf("nobody listens on %d", port)
		}
		return nil
	})
	return dir
}

// curl calls url as a workload of service ("" is a plain program).
func (m *mesh) curl(h *testhost.Host, service, url string, more ...string) (string, int) {
	m.t.Helper()
	args := append([]string{"-sS", "--max-time", "10"}, more...)
	args = append(args, url)
	if service == "" {
		return h.Run(m.t, "user", "curl", args...)
	}
	return h.Run(m.t, "user", h.Bin("tacit"), append([]string{"--socket", h.Socket(), "run", service, "--", "curl"}, args...)...)
}

func (m *mesh) answers(h *testhost.Host, service, url, want string) {
	m.t.Helper()
	out, exit := m.curl(h, service, url)
	if exit != 0 || strings.TrimSpace(out) != want {
		m.t.Fatalf("%s as %q: curl %s: exit %d, %q; want %q", h.Name, service, url, exit, out, want)
	}
}

// refused wants curl's exit status 7: connect() failed.
func (m *mesh) refused(h *testhost.Host, service, url string) {
	m.t.Helper()
	out, exit := m.curl(h, service, url, "-v")
	if exit != 7 || !strings.Contains(out, "Connection refused") {
		m.t.Fatalf("%s as %q: curl %s: exit %d, want 7 and Connection refused\n%s", h.Name, service, url, exit, out)
	}
}

func jsonOf[T any](t *testing.T, text string) T {
	t.Helper()
	var out T
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, text)
	}
	return out
}

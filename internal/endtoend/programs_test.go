// SPDX-License-Identifier: Apache-2.0

// Package endtoend runs the real daemon, the real CLI and stock programs on
// hosts made of namespaces, and reads like the README. It must not look inside
// the product: a test checks only what a user can see.
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

// define writes a service file on a host and waits until every node given
// knows the service.
func define(t *testing.T, nodes []*testhost.Host, h *testhost.Host, name, text string) {
	t.Helper()
	testhost.WriteFile(t, filepath.Join(h.Services, name+".json"), text)
	for _, other := range nodes {
		testhost.Eventually(t, 10*time.Second, name+" known on "+other.Name, func() error {
			return succeeded(other.TryTacit(t, "service", "show", name))
		})
	}
}

// webServer starts a stock web server as an instance of a service; every page
// is body. It returns the folder that it serves.
func webServer(t *testing.T, h *testhost.Host, service, bind string, port int, body string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	testhost.WriteFile(t, filepath.Join(dir, "index.html"), body)
	h.StartAs(t, service, testhost.Python(), "-m", "http.server", fmt.Sprint(port), "--bind", bind, "--directory", dir)
	h.AwaitListener(t, port)
	return dir
}

// bigFile makes a file, "big", that takes long to fetch.
func bigFile(t *testing.T, dir string) {
	t.Helper()
	testhost.WriteFile(t, filepath.Join(dir, "big"), "")
	testhost.Must(t, os.Truncate(filepath.Join(dir, "big"), 1<<30))
}

// curl calls url as an instance of service; "" is a program that is no workload.
func curl(t *testing.T, h *testhost.Host, service, url string, more ...string) (out string, exit int) {
	t.Helper()
	return h.RunAs(t, service, "curl", append(append([]string{"-sS", "--max-time", "10"}, more...), url)...)
}

// answers fails the test unless the call gets the body want.
func answers(t *testing.T, h *testhost.Host, service, url, want string) {
	t.Helper()
	out, exit := curl(t, h, service, url)
	if exit != 0 || strings.TrimSpace(out) != want {
		t.Fatalf("%s as %q: curl %s: exit %d, %q; want %q", h.Name, service, url, exit, out, want)
	}
}

// late reports whether something took too long. Only the soak fails by how long
// something takes.
func late(took, limit time.Duration) bool { return took > limit && os.Getenv("TACIT_SOAK") != "" }

// becomesReachable waits until the call succeeds.
func becomesReachable(t *testing.T, h *testhost.Host, service, url string) {
	t.Helper()
	testhost.Eventually(t, 10*time.Second, url+" answers "+service+" on "+h.Name, func() error {
		return succeeded(curl(t, h, service, url))
	})
}

// refused fails the test unless connect() is refused: curl's exit status 7.
func refused(t *testing.T, h *testhost.Host, service, url string) {
	t.Helper()
	out, exit := curl(t, h, service, url, "-v")
	if exit != 7 || !strings.Contains(out, "Connection refused") {
		t.Fatalf("%s as %q: curl %s: exit %d, want 7 and Connection refused\n%s", h.Name, service, url, exit, out)
	}
}

// statusSays waits until status exits with 1 and prints want.
func statusSays(t *testing.T, h *testhost.Host, want string) {
	t.Helper()
	testhost.Eventually(t, 20*time.Second, "status says "+want, func() error {
		if out, exit := h.TryTacit(t, "status"); exit != 1 || !strings.Contains(out, want) {
			return fmt.Errorf("exit %d\n%s", exit, out)
		}
		return nil
	})
}

func jsonOf[T any](t *testing.T, text string) T {
	t.Helper()
	var out T
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, text)
	}
	return out
}

func succeeded(out string, exit int) error {
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

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

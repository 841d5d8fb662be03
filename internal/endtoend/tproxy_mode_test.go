// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// answerEverything is a name server that answers 192.0.2.77 for every name.
const answerEverything = `import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 53))
while True:
    q, a = s.recvfrom(512)
    end = q.index(b"\0", 12) + 5
    is_a = q[end - 4:end - 2] == b"\0\1"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2\x4d" if is_a else b""
    s.sendto(q[:2] + b"\x81\x80\0\1\0" + (b"\1" if is_a else b"\0") + b"\0\0\0\0" + q[12:end] + answer, a)
`

// TestTPROXYMode is a mesh whose nodes use no socket hooks. Allowed calls are
// carried in mTLS, denied and unknown callers get no byte, names resolve, and
// cleanup leaves nothing. The guarantees that don't hold are status's first line.
func TestTPROXYMode(t *testing.T) {
	var outside *testhost.Host
	var checkLeaks func()
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"service-B"}, Flags: []string{"--redirect", "tproxy"},
		Prepare: func(m *testhost.Mesh) {
			outside = m.Host(t, "outside")
			m.Nodes[0].SetResolvConf(t, "nameserver "+outside.Addr.String()+"\n")
			outside.Start(t, "user", testhost.Python(), "-c", answerEverything, outside.Addr.String())
			checkLeaks = m.Nodes[0].Leaks(t)
		}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	define(t, m.Nodes, host1, "service-a", serviceA)
	define(t, m.Nodes, host2, "service-b", serviceB)
	webServer(t, host2, "service-B", "0.0.0.0", 80, "Hello World")

	wire := host2.Start(t, "user", "tcpdump", "-i", "eth0", "-l", "-A", "-n", "--immediate-mode")
	testhost.AwaitText(t, 5*time.Second, "tcpdump listens", "listening", wire.Output)

	first, _, _ := strings.Cut(host1.Tacit(t, "status"), "\n")
	for _, want := range []string{"NOT guarantee", "fail closed (1)", "deny is complete (2)", "netfilter never guards (7)", "docs/redirect-tproxy.md"} {
		if !strings.Contains(first, want) {
			t.Errorf("the first line of status lacks %q: %s", want, first)
		}
	}
	status := jsonOf[struct {
		Unheld  []string
		Healthy bool
	}](t, host1.Tacit(t, "status", "--json"))
	if len(status.Unheld) != 3 || !status.Healthy {
		t.Errorf("status --json: %+v", status)
	}

	resolves := func(name, want string) {
		t.Helper()
		testhost.Eventually(t, 10*time.Second, name+" resolves", func() error {
			out, _ := host1.Run(t, "user", "getent", "ahostsv4", name)
			return contains(out, want)
		})
	}
	resolves("service-b", "240.64.0.")
	resolves("elsewhere.example", "192.0.2.77") // the daemon's own query to the resolver isn't captured

	nothing := func(h *testhost.Host, service, url string) {
		t.Helper()
		if out, exit := curl(t, h, service, url); exit == 0 || strings.Contains(out, "Hello") {
			t.Errorf("%s as %q: curl %s: exit %d, %s; want not a byte", h.Name, service, url, exit, out)
		}
	}
	urls := []string{"http://service-B/", "http://service-b.mesh/", "http://service-B.service.consul:80/"}
	real := "http://" + host2.Addr.String() + "/"
	for _, url := range urls {
		nothing(host1, "service-A", url) // denied by default
		nothing(host1, "", url)          // no workload
	}
	refused(t, outside, "", real)
	refused(t, host1, "", real)

	host1.Tacit(t, "intention", "allow", "service-A", "service-B", "--wait")
	for _, url := range urls {
		testhost.Eventually(t, 10*time.Second, url+" answers", func() error { return succeeded(curl(t, host1, "service-A", url)) })
		answers(t, host1, "service-A", url, "Hello World")
		nothing(host1, "", url)
		nothing(host2, "", url)
	}
	if out, exit := curl(t, host1, "service-A", urls[0], "-6"); exit != 0 || strings.TrimSpace(out) != "Hello World" {
		t.Errorf("by IPv6: exit %d, %q", exit, out)
	}
	if err := contains(host1.Tacit(t, "status", "--json"), "/svc/service-b"); err != nil {
		t.Errorf("no lane with a proven service: %v", err)
	}
	if out := host1.Tacit(t, "flows"); !strings.Contains(out, "out host2") || !strings.Contains(out, "identity") {
		t.Errorf("flows: %s", out)
	}

	host1.Tacit(t, "intention", "deny", "service-A", "service-B", "--wait")
	nothing(host1, "service-A", urls[0])

	if out := wire.Output(); strings.Contains(out, "Hello World") || !strings.Contains(out, "."+"7947: Flags") {
		t.Errorf("plain text on the wire, or no lane (%d bytes captured)", len(out))
	}

	virtual, _ := host1.Virtual(t, "service-b")
	dead := func(want int) {
		t.Helper()
		if out, exit := curl(t, host1, "", "http://"+virtual.String()+"/", "--max-time", "2"); exit != want {
			t.Errorf("without a daemon: exit %d, %s; want %d", exit, out, want)
		}
		refused(t, host1, "", real)
		refused(t, host2, "", "http://127.0.0.1/")
	}
	host1.Kill(t)
	dead(28) // nothing answers
	host1.Daemon(t, "--redirect", "tproxy")
	host1.Tacit(t, "intention", "allow", "service-A", "service-B")
	testhost.Eventually(t, 20*time.Second, "the restarted node carries calls", func() error { return succeeded(curl(t, host1, "service-A", urls[0])) })

	host1.Stop(t)
	dead(7) // refused
	resolves("elsewhere.example", "192.0.2.77")
	if out, exit := host1.Tacitd(t, "cleanup"); exit != 0 {
		t.Errorf("cleanup: exit %d\n%s", exit, out)
	}
	checkLeaks()
	if out, _ := host1.Run(t, "user", "sh", "-c", "iptables-save; ip6tables-save"); strings.Contains(out, "TACIT") {
		t.Errorf("cleanup left: %s", out)
	}
}

// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// answerEverything is a name server that has 192.0.2.77 for every name.
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

// TestTPROXYMode is a mesh of nodes without any socket hook. What it holds:
// allowed is carried in mTLS, denied and unknown get no byte, names resolve,
// nothing is left. What it can't hold, status says first.
func TestTPROXYMode(t *testing.T) {
	net := testhost.NewNet(t)
	m := &mesh{t: t, net: net}
	host1, host2 := net.Host(t, "host1"), net.Host(t, "host2")
	outside := net.Host(t, "outside")
	host1.SetResolvConf(t, "nameserver "+outside.Addr.String()+"\n")
	wildcard := outside.Command("user", testhost.Python(), "-c", answerEverything, outside.Addr.String())
	if err := wildcard.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = wildcard.Process.Kill(); _ = wildcard.Wait() })
	left := host1.Leaks(t)
	host1.Daemon(t, "--bootstrap", "--redirect", "tproxy")
	m.hosts = append(m.hosts, host1)
	write(t, filepath.Join(host2.Dir, "token"), m.tacit(host1, "token", "create", "--node", "host2", "--service", "service-B"))
	host2.Daemon(t, "--join", host1.Addr.String(), "--token-file", filepath.Join(host2.Dir, "token"), "--redirect", "tproxy")
	m.hosts = append(m.hosts, host2)
	m.define(host1, "service-a", serviceA)
	m.define(host2, "service-b", serviceB)
	m.web(host2, "service-B", "0.0.0.0", 80, "Hello World")

	wire := host2.Start(t, "user", "tcpdump", "-i", "eth0", "-l", "-A", "-n", "--immediate-mode")
	testhost.Eventually(t, 5*time.Second, "tcpdump listens", func() error { return contains(wire.Output(), "listening") })

	first, _, _ := strings.Cut(m.tacit(host1, "status"), "\n")
	for _, want := range []string{"NOT hold", "fail closed (1)", "deny is complete (2)", "netfilter never guards (7)", "docs/redirect-tproxy.md"} {
		if !strings.Contains(first, want) {
			t.Errorf("the first line of status lacks %q: %s", want, first)
		}
	}
	status := jsonOf[struct {
		Unheld  []string
		Healthy bool
	}](t, m.tacit(host1, "status", "--json"))
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
	resolves("elsewhere.example", "192.0.2.77") // and the daemon's own query isn't captured

	nothing := func(h *testhost.Host, service, url string) {
		t.Helper()
		if out, exit := m.curl(h, service, url); exit == 0 || strings.Contains(out, "Hello") {
			t.Errorf("%s as %q: curl %s: exit %d, %s; want not a byte", h.Name, service, url, exit, out)
		}
	}
	urls := []string{"http://service-B/", "http://service-b.mesh/", "http://service-B.service.consul:80/"}
	real := "http://" + host2.Addr.String() + "/"
	for _, url := range urls {
		nothing(host1, "service-A", url) // denied by default
		nothing(host1, "", url)          // nobody
	}
	m.refused(outside, "", real)
	m.refused(host1, "", real)

	m.tacit(host1, "intention", "allow", "service-A", "service-B", "--wait")
	for _, url := range urls {
		testhost.Eventually(t, 10*time.Second, url+" answers", func() error { return expect0(m.curl(host1, "service-A", url)) })
		m.answers(host1, "service-A", url, "Hello World")
		nothing(host1, "", url)
		nothing(host2, "", url)
	}
	if out, exit := m.curl(host1, "service-A", urls[0], "-6"); exit != 0 || strings.TrimSpace(out) != "Hello World" {
		t.Errorf("by IPv6: exit %d, %q", exit, out)
	}
	if err := contains(m.tacit(host1, "status", "--json"), "/svc/service-b"); err != nil {
		t.Errorf("no lane has a proven service: %v", err)
	}
	if out := m.tacit(host1, "flows"); !strings.Contains(out, "out host2") || !strings.Contains(out, "identity") {
		t.Errorf("flows: %s", out)
	}

	m.tacit(host1, "intention", "deny", "service-A", "service-B", "--wait")
	nothing(host1, "service-A", urls[0])

	if out := wire.Output(); strings.Contains(out, "Hello World") || !strings.Contains(out, "."+"7947: Flags") {
		t.Errorf("on the wire in clear, or no lane to be seen (%d bytes of record)", len(out))
	}

	virtual := jsonOf[struct{ Virtual4 string }](t, m.tacit(host1, "resolve", "service-b", "--json")).Virtual4
	dead := func(want int) {
		t.Helper()
		if out, exit := m.curl(host1, "", "http://"+virtual+"/", "--max-time", "2"); exit != want {
			t.Errorf("without a daemon: exit %d, %s; want %d", exit, out, want)
		}
		m.refused(host1, "", real)
		m.refused(host2, "", "http://127.0.0.1/")
	}
	host1.Kill(t)
	dead(28) // nothing answers
	host1.Daemon(t, "--redirect", "tproxy")
	m.tacit(host1, "intention", "allow", "service-A", "service-B")
	testhost.Eventually(t, 20*time.Second, "the restarted node carries", func() error { return expect0(m.curl(host1, "service-A", urls[0])) })

	host1.Stop(t)
	dead(7) // refused
	resolves("elsewhere.example", "192.0.2.77")
	if out, exit := host1.Tacitd(t, "cleanup"); exit != 0 {
		t.Errorf("cleanup: exit %d\n%s", exit, out)
	}
	left()
	if out, _ := host1.Run(t, "user", "sh", "-c", "iptables-save; ip6tables-save"); strings.Contains(out, "TACIT") {
		t.Errorf("cleanup left: %s", out)
	}
}

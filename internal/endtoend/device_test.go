// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// boundProgram connects as an allowed caller with a socket bound to eth0,
// before connect() or after it, and then sends a canary.
const boundProgram = `
import socket, sys
address, when = sys.argv[1], sys.argv[2]
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
s.settimeout(3)
if when == "before":
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
try:
    s.connect((address, 8000))
    print("connected")
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
    s.send(b"GET /canary-7f3a HTTP/1.0\r\n\r\n")
    s.recv(10)
    print("answered")
except OSError as e:
    print(e)
`

// TestBoundToADevice: a socket bound to a device goes round the routes that
// keep virtual addresses on loopback; nothing of it may leave the host.
func TestBoundToADevice(t *testing.T) {
	m := newMesh(t, 2, []string{"db"})
	host1, host2 := m.hosts[0], m.hosts[1]
	m.web(host2, "db", "127.0.0.1", 8000, "db")
	m.tacit(host2, "service", "register", "db", "--port", "8000")
	m.tacit(host1, "intention", "allow", "web", "db", "--wait")
	testhost.Eventually(t, 10*time.Second, "db answers", func() error { return expect0(m.curl(host1, "web", "http://db:8000/")) })
	r := jsonOf[struct{ Virtual4, Virtual6 string }](t, m.tacit(host1, "resolve", "db", "--json"))
	m.strays(host1, host2, r.Virtual4, r.Virtual6)

	wire := host1.Start(t, "user", "tcpdump", "-i", "eth0", "-l", "-A", "-n", "net 240.64.0.0/12 or net fd7a:ac17::/32")
	testhost.Eventually(t, 5*time.Second, "tcpdump listens", func() error { return contains(wire.Output(), "listening") })
	for _, address := range []string{r.Virtual4, r.Virtual6} {
		out, _ := host1.Run(t, "user", host1.Bin("tacit"), "run", "web", "--", testhost.Python(), "-c", boundProgram, address, "before")
		if !strings.Contains(out, "refused") {
			t.Errorf("%s, bound before: %s; want refused", address, out)
		}
		out, _ = host1.Run(t, "user", host1.Bin("tacit"), "run", "web", "--", testhost.Python(), "-c", boundProgram, address, "after")
		if !strings.Contains(out, "connected") || strings.Contains(out, "answered") {
			t.Errorf("%s, bound after connecting: %s; want connected, and no answer round the mesh", address, out)
		}
	}
	if text := wire.Output(); strings.Contains(text, " IP") || strings.Contains(text, "canary-7f3a") {
		t.Errorf("packets for virtual addresses left host1:\n%s", text)
	}
	if err := contains(m.tacit(host1, "flows"), "device"); err != nil {
		t.Error(err)
	}
}

// strays gives host1 a way for packets that leave: by host2, with a known
// link-layer address, so that they need no answer to be seen.
func (m *mesh) strays(from, to *testhost.Host, addresses ...string) {
	m.t.Helper()
	link, _ := to.Run(m.t, "user", "ip", "-br", "link", "show", "eth0") // name, state, address
	mac := strings.Fields(link)[2]
	for _, a := range addresses {
		if out, exit := from.Run(m.t, "user", "ip", "neigh", "add", a, "lladdr", mac, "dev", "eth0"); exit != 0 {
			m.t.Fatalf("%s", out)
		}
	}
}

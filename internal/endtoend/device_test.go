// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// boundProgram connects with a socket that it binds to eth0 before connect() or
// after it, and then sends a canary.
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

// TestBoundToADevice: a socket bound to a device bypasses the routes that keep
// virtual addresses on loopback; none of its packets may leave the host.
func TestBoundToADevice(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	webServer(t, host2, "db", "127.0.0.1", 8000, "db")
	host2.Tacit(t, "service", "register", "db", "--port", "8000")
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	becomesReachable(t, host1, "web", "http://db:8000/")
	v4, v6 := host1.Virtual(t, "db")
	routeStrays(t, host1, host2, v4, v6)

	wire := host1.Start(t, "user", "tcpdump", "-i", "eth0", "-l", "-A", "-n", "net 240.64.0.0/12 or net fd7a:ac17::/32")
	testhost.AwaitText(t, 5*time.Second, "tcpdump listens", "listening", wire.Output)
	for _, address := range []string{v4.String(), v6.String()} {
		out, _ := host1.RunAs(t, "web", testhost.Python(), "-c", boundProgram, address, "before")
		if !strings.Contains(out, "refused") {
			t.Errorf("%s, bound before: %s; want refused", address, out)
		}
		out, _ = host1.RunAs(t, "web", testhost.Python(), "-c", boundProgram, address, "after")
		if !strings.Contains(out, "connected") || strings.Contains(out, "answered") {
			t.Errorf("%s, bound after connecting: %s; want connected, and no answer from outside the mesh", address, out)
		}
	}
	if text := wire.Output(); strings.Contains(text, " IP") || strings.Contains(text, "canary-7f3a") {
		t.Errorf("packets for virtual addresses left host1:\n%s", text)
	}
	if err := contains(host1.Tacit(t, "flows"), "device"); err != nil {
		t.Error(err)
	}
}

// routeStrays gives addresses a neighbour entry for another host, so that
// packets for them would be sent without an answer to ARP.
func routeStrays(t *testing.T, from, to *testhost.Host, addresses ...netip.Addr) {
	t.Helper()
	mac := strings.Fields(to.Sh(t, "ip -br link show eth0"))[2] // name, state, address
	for _, a := range addresses {
		from.Sh(t, fmt.Sprintf("ip neigh add %s lladdr %s dev eth0", a, mac))
	}
}

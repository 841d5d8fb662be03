// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"tacit/internal/testhost"
)

const (
	servicePort = 8000
	mptcpPort   = 8001 // of a service whose listener speaks MPTCP
	shutPort    = 8002 // of a service that nobody may call
	labPort     = 8003 // of a service whose connections may break
	plainPort   = 9000 // no service's
)

// bed is the mesh of all rows: callers on host1 and host2, services on host2,
// containers on both, and a host outside.
type bed struct {
	t            *testing.T
	host1, host2 *testhost.Host
	outside      *testhost.Host
	boxes        map[string]*testhost.Host
	callers      map[string]*caller
	servers      map[string]*testhost.Process
	wire         *wire
	words        *strings.Replacer
	table        table
	tries        atomic.Int64
}

func newBed(t *testing.T) *bed {
	t.Helper()
	net := testhost.NewNet(t)
	b := &bed{t: t, host1: net.Host(t, "host1"), host2: net.Host(t, "host2"), outside: net.Host(t, "outside"),
		boxes: map[string]*testhost.Host{}, servers: map[string]*testhost.Process{}}
	b.wire = record(t, net, b.outside)
	for _, h := range []*testhost.Host{b.host1, b.host2} { // a wrong packet has somewhere to go
		b.sh(h, fmt.Sprintf("ip route add default via %s; ip -6 route add default via %s", b.outside.Addr, b.outside.Addr6))
	}
	for _, h := range []*testhost.Host{b.host1, b.host2, b.outside} {
		must(t, h.Sysctl("net/ipv4/tcp_fastopen", "3"))
	}
	b.furnish()
	b.hire()
	b.startDaemons("--bootstrap")
	b.enrol()
	b.sh(b.host2, fmt.Sprintf("ip addr add %s/24 dev eth0; ip addr add %s/64 dev eth0 nodad", second(b.host2.Addr), second(b.host2.Addr6)))
	b.findPlaces()
	return b
}

// startDaemons makes the mesh of host1, with args, and lets host2 join.
func (b *bed) startDaemons(args ...string) {
	b.t.Helper()
	b.host1.Daemon(b.t, append(args, way()...)...)
	token := filepath.Join(b.host2.Dir, "token")
	words := []string{"token", "create", "--node", "host2"}
	for _, name := range []string{"db", "mp", "shut", "web", "evil", "app2", "worse2", "moved", "late", "lab", "early"} {
		words = append(words, "--service", name)
	}
	must(b.t, os.WriteFile(token, []byte(b.tacit(b.host1, words...)), 0o600))
	b.host2.Daemon(b.t, append([]string{"--join", b.host1.Addr.String(), "--token-file", token}, way()...)...)
}

// way is how the daemons capture: by hooks, or as TACIT_REDIRECT says, with
// which rows fail that docs/redirect-tproxy.md names.
func way() []string {
	if mode := os.Getenv("TACIT_REDIRECT"); mode != "" {
		return []string{"--redirect", mode}
	}
	return nil
}

// furnish makes the containers. box is a plain one; dock is behind a bridge and
// a NAT, as Docker does it; inner is inside box, behind a NAT of box's own.
// The strays are outside of the hooked cgroups.
func (b *bed) furnish() {
	b.t.Helper()
	for name, h := range map[string]*testhost.Host{"box": b.host1, "box2": b.host2, "dock": b.host1, "stray": b.host1, "stray2": b.host2} {
		b.boxes[name] = h.Container(b.t, name)
	}
	dock := b.boxes["dock"]
	b.sh(b.host1, fmt.Sprintf(bridge, b.gateway(b.host1, dock.Addr), b.gateway(b.host1, dock.Addr6)))
	b.sh(b.host1, "sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0")
	b.nat(b.host1, "! -o docker0")
	for _, name := range []string{"inner", "inner stray"} {
		b.boxes[name] = b.boxes["box"].Container(b.t, strings.ReplaceAll(name, " ", "-"))
	}
	b.nat(b.boxes["box"], "-o eth0")
	for _, name := range []string{"stray", "stray2", "inner stray"} {
		b.boxes[name].Cgroup = filepath.Join(filepath.Dir(b.host1.Cgroup), "outside-of-all", strings.ReplaceAll(name, " ", "-"))
	}
}

// bridge puts the interface and addresses of a container's veth behind a bridge.
const bridge = `
veth4="%s"; veth6="%s"; dev=${veth4%% *}; a4=${veth4#* }; a6=${veth6#* }
ip link add docker0 type bridge; ip addr del $a4 dev $dev; ip addr del $a6 dev $dev
ip link set $dev master docker0; ip addr add $a4 dev docker0; ip addr add $a6 dev docker0 nodad; ip link set docker0 up`

// gateway is "INTERFACE ADDRESS/BITS" of the host's end of a container's veth.
func (b *bed) gateway(h *testhost.Host, inside netip.Addr) string {
	b.t.Helper()
	return b.sh(h, fmt.Sprintf("ip -o addr show to %s | awk '{print $2, $4}'", inside.Prev()))
}

// nat makes a host forward and hide what it forwards behind its own address.
func (b *bed) nat(h *testhost.Host, where string) {
	b.t.Helper()
	b.sh(h, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1; "+
		"iptables -t nat -A POSTROUTING -s 10.88.0.0/16 "+where+" -j MASQUERADE; "+
		"ip6tables -t nat -A POSTROUTING -s fd88::/16 "+where+" -j MASQUERADE")
}

// second is another address of the same network.
func second(a netip.Addr) netip.Addr {
	bytes := a.AsSlice()
	bytes[len(bytes)-1] = 200
	other, _ := netip.AddrFromSlice(bytes)
	return other
}

// enrol makes the workloads, the servers and the intentions.
func (b *bed) enrol() {
	b.t.Helper()
	for _, h := range []*testhost.Host{b.host1, b.host2} {
		for _, name := range []string{"web", "evil"} {
			b.tacit(h, "run", name, "--", "true") // makes the cgroup
		}
	}
	for _, name := range []string{"app", "worse"} {
		for _, box := range []string{"box", "dock", "inner"} {
			b.tacit(b.host1, "service", "register", name, "--id", box+name, "--cgroup", b.boxes[box].CgroupPath(name))
		}
		b.tacit(b.host2, "service", "register", name+"2", "--cgroup", b.boxes["box2"].CgroupPath(name))
	}
	b.serve("db", b.host2, "db", "::", servicePort)
	b.serve("mp", b.host2, "mp", "::", mptcpPort, "mptcp")
	b.serve("shut", b.host2, "shut", "::", shutPort)
	b.serve("lab", b.host2, "lab", "::", labPort)
	b.serve("plain", b.host2, "", "::", plainPort)
	b.serve("thief", b.outside, "", "::", plainPort)
	for _, name := range []string{"web", "app", "app2"} {
		b.tacit(b.host1, "intention", "allow", name, "db", "--wait")
	}
	b.tacit(b.host1, "intention", "allow", "web", "mp", "--wait")
	b.tacit(b.host1, "intention", "allow", "web", "lab", "--wait")
	for _, dir := range []string{"tacit/services/web", "tacit/services/evil", "user"} {
		own := b.host1.CgroupPath(dir + "/own")
		b.sh(b.host1, fmt.Sprintf("mkdir -p %s; chown 65534 %[1]s %[1]s/cgroup.procs %[1]s/cgroup.subtree_control", own))
	}
	for _, name := range []string{"evil", "worse", "worse2"} {
		b.tacit(b.host1, "intention", "deny", name, "db", "--wait")
	}
}

// serve starts a server, of a service or of none.
func (b *bed) serve(name string, h *testhost.Host, service, addr string, port int, words ...string) {
	b.t.Helper()
	args := append([]string{testhost.Python(), b.script("serve.py"), addr, fmt.Sprint(port)}, words...)
	if service != "" {
		args = append([]string{h.Bin("tacit"), "run", service, "--"}, args...)
	}
	b.servers[name] = h.Start(b.t, "user", args[0], args[1:]...)
	eventually(b.t, name+" listens", "listening", b.servers[name].Output)
	if service != "" {
		b.tacit(h, "service", "register", service, "--port", fmt.Sprint(port))
	}
}

// virtual are a service's virtual addresses on a node.
func (b *bed) virtual(h *testhost.Host, service string) (v4, v6 string) {
	b.t.Helper()
	eventually(b.t, h.Name+" knows "+service, `"virtual6"`, func() string {
		out, _ := h.Tacit(b.t, "resolve", service, "--json")
		return out
	})
	var found struct{ Virtual4, Virtual6 string }
	must(b.t, json.Unmarshal([]byte(b.tacit(h, "resolve", service, "--json")), &found))
	return found.Virtual4, found.Virtual6
}

func (b *bed) place(text string) string {
	text = b.words.Replace(text)
	if strings.Contains(text, "{") {
		b.t.Fatalf("no such place: %s", text)
	}
	return text
}

func (b *bed) script(name string) string {
	path, err := filepath.Abs(filepath.Join("testdata", name))
	must(b.t, err)
	return path
}

// tacit runs the CLI and wants success.
func (b *bed) tacit(h *testhost.Host, args ...string) string {
	b.t.Helper()
	out, exit := h.Tacit(b.t, args...)
	if exit != 0 {
		b.t.Fatalf("%s$ tacit %s: exit %d\n%s", h.Name, strings.Join(args, " "), exit, out)
	}
	return out
}

func (b *bed) sh(h *testhost.Host, line string) string {
	b.t.Helper()
	out, exit := h.Run(b.t, "", "sh", "-ec", line)
	if exit != 0 {
		b.t.Fatalf("%s: %s: exit %d, %s", h.Name, line, exit, out)
	}
	return strings.TrimSpace(out)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bed) hostNamed(name string) *testhost.Host {
	return map[string]*testhost.Host{"host1": b.host1, "host2": b.host2, "outside": b.outside}[name]
}

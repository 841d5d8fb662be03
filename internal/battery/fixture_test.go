// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tacit/internal/testhost"
)

const (
	servicePort = 8000
	mptcpPort   = 8001 // of a service whose listener is an MPTCP socket
	shutPort    = 8002 // of a service that nobody may call
	labPort     = 8003 // of a service whose connections may break
	sixPort     = 8004 // of a service that listens on IPv6 only
	plainPort   = 9000 // no service's
)

// fixture is the mesh of all rows: callers on host1 and host2, services on
// host2, containers on both, and a host outside of the mesh.
type fixture struct {
	t            *testing.T
	host1, host2 *testhost.Host
	outside      *testhost.Host
	boxes        map[string]*testhost.Host // containers by name
	callers      map[string]*caller
	servers      map[string]*testhost.Process
	wire         *wire
	words        *strings.Replacer // see fillPlaces
	table        table
	tries        atomic.Int64
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, boxes: map[string]*testhost.Host{}, servers: map[string]*testhost.Process{}}
	testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Flags: redirectFlags(), Prepare: f.prepare,
		Grants: []string{"db", "mp", "shut", "web", "evil", "app2", "worse2", "moved", "late", "lab", "six", "early"}})
	f.register()
	f.host2.Sh(t, fmt.Sprintf("ip addr add %s/24 dev eth0; ip addr add %s/64 dev eth0 nodad", second(f.host2.Addr), second(f.host2.Addr6)))
	f.fillPlaces()
	return f
}

// redirectFlags choose how the daemons capture: by hooks, or as TACIT_REDIRECT
// says. docs/redirect-tproxy.md lists the rows that fail with TPROXY.
func redirectFlags() []string {
	if mode := os.Getenv("TACIT_REDIRECT"); mode != "" {
		return []string{"--redirect", mode}
	}
	return nil
}

// prepare makes everything that exists before the daemons: the capture, a
// default route so that a wrong packet does leave its host, and containers.
func (f *fixture) prepare(m *testhost.Mesh) {
	f.host1, f.host2, f.outside = m.Nodes[0], m.Nodes[1], m.Host(f.t, "outside")
	f.wire = record(f.t, m.Net, f.outside)
	for _, h := range m.Nodes {
		h.Sh(f.t, fmt.Sprintf("ip route add default via %s; ip -6 route add default via %s", f.outside.Addr, f.outside.Addr6))
	}
	for _, h := range []*testhost.Host{f.host1, f.host2, f.outside} {
		testhost.Must(f.t, h.Sysctl("net/ipv4/tcp_fastopen", "3"))
	}
	f.addContainers()
	f.addCallers()
}

// addContainers: box has a veth; dock is behind a bridge and NAT, as Docker's
// containers are; inner is inside box, behind a NAT of box's own. The processes of
// the strays are outside of the hooked cgroups.
func (f *fixture) addContainers() {
	f.t.Helper()
	for name, h := range map[string]*testhost.Host{"box": f.host1, "box2": f.host2, "dock": f.host1, "stray": f.host1, "stray2": f.host2} {
		f.boxes[name] = h.Container(f.t, name)
	}
	dock := f.boxes["dock"]
	f.host1.Sh(f.t, fmt.Sprintf(bridge, f.gateway(f.host1, dock.Addr), f.gateway(f.host1, dock.Addr6)))
	f.host1.Sh(f.t, "sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0")
	f.nat(f.host1, "! -o docker0")
	for _, name := range []string{"inner", "inner stray"} {
		f.boxes[name] = f.boxes["box"].Container(f.t, strings.ReplaceAll(name, " ", "-"))
	}
	f.nat(f.boxes["box"], "-o eth0")
	for _, name := range []string{"stray", "stray2", "inner stray"} {
		f.boxes[name].Cgroup = filepath.Join(filepath.Dir(f.host1.Cgroup), "outside-of-all", strings.ReplaceAll(name, " ", "-"))
	}
}

// bridge moves a container's veth and the addresses of its host's end to a bridge.
const bridge = `
veth4="%s"; veth6="%s"; dev=${veth4%% *}; a4=${veth4#* }; a6=${veth6#* }
ip link add docker0 type bridge; ip addr del $a4 dev $dev; ip addr del $a6 dev $dev
ip link set $dev master docker0; ip addr add $a4 dev docker0; ip addr add $a6 dev docker0 nodad; ip link set docker0 up`

// gateway is "INTERFACE ADDRESS/BITS" of the host's end of a container's veth.
func (f *fixture) gateway(h *testhost.Host, inside netip.Addr) string {
	f.t.Helper()
	return h.Sh(f.t, fmt.Sprintf("ip -o addr show to %s | awk '{print $2, $4}'", inside.Prev()))
}

// nat makes a host forward its containers' packets, with its own source address.
func (f *fixture) nat(h *testhost.Host, where string) {
	f.t.Helper()
	h.Sh(f.t, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1; "+
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

// register makes workloads, servers and intentions.
func (f *fixture) register() {
	t := f.t
	for _, h := range []*testhost.Host{f.host1, f.host2} {
		h.MakeWorkload(t, "web")
		h.MakeWorkload(t, "evil")
	}
	for _, name := range []string{"app", "worse"} {
		for _, box := range []string{"box", "dock", "inner"} {
			f.host1.Tacit(t, "service", "register", name, "--id", box+name, "--cgroup", f.boxes[box].CgroupPath(name))
		}
		f.host2.Tacit(t, "service", "register", name+"2", "--cgroup", f.boxes["box2"].CgroupPath(name))
	}
	f.serve("db", f.host2, "db", servicePort)
	f.serve("mp", f.host2, "mp", mptcpPort, "mptcp")
	f.serve("shut", f.host2, "shut", shutPort)
	f.serve("lab", f.host2, "lab", labPort)
	f.serve("six", f.host2, "six", sixPort, "only")
	f.serve("plain", f.host2, "", plainPort)
	f.serve("outside", f.outside, "", plainPort)
	for _, pair := range [][2]string{{"web", "db"}, {"app", "db"}, {"app2", "db"}, {"web", "mp"}, {"web", "lab"}, {"web", "six"}} {
		f.host1.Tacit(t, "intention", "allow", pair[0], pair[1], "--wait")
	}
	for _, dir := range []string{testhost.WorkloadCgroup("web"), testhost.WorkloadCgroup("evil"), "user"} {
		own := f.host1.CgroupPath(dir + "/own")
		f.host1.Sh(t, fmt.Sprintf("mkdir -p %s; chown 65534 %[1]s %[1]s/cgroup.procs %[1]s/cgroup.subtree_control", own))
	}
	for _, name := range []string{"evil", "worse", "worse2"} {
		f.host1.Tacit(t, "intention", "deny", name, "db", "--wait")
	}
}

// serve starts serve.py on every address of a host, as an instance of a service,
// whose port it registers, or, for "", of none.
func (f *fixture) serve(name string, h *testhost.Host, service string, port int, words ...string) {
	f.t.Helper()
	args := append([]string{f.script("serve.py"), "::", fmt.Sprint(port)}, words...)
	f.servers[name] = h.StartAs(f.t, service, testhost.Python(), args...)
	await(f.t, name+" listens", "listening", f.servers[name].Output)
	if service != "" {
		h.Tacit(f.t, "service", "register", service, "--port", fmt.Sprint(port))
	}
}

func (f *fixture) place(text string) string {
	text = f.words.Replace(text)
	if strings.Contains(text, "{") {
		f.t.Fatalf("no such place: %s", text)
	}
	return text
}

func (f *fixture) script(name string) string {
	path, err := filepath.Abs(filepath.Join("testdata", name))
	testhost.Must(f.t, err)
	return path
}

func (f *fixture) hostNamed(name string) *testhost.Host {
	return map[string]*testhost.Host{"host1": f.host1, "host2": f.host2, "outside": f.outside}[name]
}

// await waits for a text that must turn up.
func await(t testing.TB, what, want string, text func() string) {
	t.Helper()
	testhost.AwaitText(t, 10*time.Second, what, want, text)
}

// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Host is a machine as far as tacit can tell: a network namespace, a cgroup,
// a bpffs, directories and a resolv.conf of its own.
type Host struct {
	Name  string
	Addr  netip.Addr // of eth0
	Addr6 netip.Addr // of eth0; zero on a kernel without IPv6

	Dir      string // parent of the following; free for the test's files
	State    string // --state-dir
	RunDir   string // --run-dir
	Services string // --services-dir
	BPF      string // --bpffs-dir: a folder of a bpffs of its own
	Cgroup   string // --cgroup: root of the host's tree

	Starter []string // a command that execs its arguments, such as prlimit: daemons are started by it

	net       *Net
	namespace string
	mu        sync.Mutex
	parts     int // containers so far
	daemon    *Daemon
	started   int            // processes with a log so far
	cgroups   map[string]int // open descriptors by path
}

// Host joins a new host to the switch, with 10.87.x.N/24 and fd87::x:0:0:0:N/64
// on eth0, and without a default route.
func (n *Net) Host(t testing.TB, name string) *Host {
	t.Helper()
	h := n.newHost(name, n.cgroup)
	n.mu.Lock()
	n.hosts = append(n.hosts, h)
	i := len(n.hosts)
	n.mu.Unlock()
	h.Addr = n.addr4(i)
	if n.v6 {
		h.Addr6 = n.addr6(i)
	}
	sw := n.key.namespace("switch")
	port := fmt.Sprintf("port%d", i)
	Must(t, h.prepare())
	t.Cleanup(h.closeCgroups)
	Must(t, makeNamespace(h.namespace, append([]string{
		"link set lo up",
		"link add eth0 type veth peer name " + port + " netns " + sw,
	}, h.addresses(24, 64)...)))
	Must(t, batch(sw, []string{"link set " + port + " master br0 up"}))
	Must(t, h.settle())
	return h
}

func (n *Net) newHost(name, cgroup string) *Host {
	dir := filepath.Join(n.dir, name)
	return &Host{
		Name: name, net: n, cgroups: map[string]int{}, namespace: n.key.namespace(name), Cgroup: filepath.Join(cgroup, name),
		Dir: dir, State: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"),
		Services: filepath.Join(dir, "services"), BPF: filepath.Join(dir, "bpf", "tacit"),
	}
}

// prepare makes directories, cgroup, bpffs and resolv.conf. RunDir is left to
// the daemon.
func (h *Host) prepare() error {
	bpffs := filepath.Dir(h.BPF)
	for _, dir := range []string{h.State, h.Services, bpffs, h.Cgroup} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("bpf", bpffs, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("bpffs at %s: %w", bpffs, err)
	}
	return os.WriteFile(h.resolvConf(), fmt.Appendf(nil, "nameserver %s\n", h.net.addr4(254)), 0o644)
}

// addresses are the lines of ip(8) that bring up eth0.
func (h *Host) addresses(bits4, bits6 int) []string {
	lines := []string{fmt.Sprintf("addr add %s/%d dev eth0", h.Addr, bits4)}
	if h.Addr6.IsValid() {
		lines = append(lines, fmt.Sprintf("addr add %s/%d dev eth0 nodad", h.Addr6, bits6))
	}
	return append(lines, "link set eth0 up")
}

// settle turns forwarding off, whatever this machine's default is, and waits for
// the link-local address: without that a snapshot would change by itself.
func (h *Host) settle() error {
	if err := h.Sysctl("net/ipv4/ip_forward", "0"); err != nil || !h.Addr6.IsValid() {
		return err
	}
	return wait(5*time.Second, func() error {
		return h.Do(func() error {
			text, err := os.ReadFile("/proc/thread-self/net/if_inet6")
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(text)) {
				// address, interface, prefix, scope 20 (link), flags 80 (permanent, so not tentative), name
				f := strings.Fields(line)
				if len(f) == 6 && f[3] == "20" && f[4] == "80" && f[5] == "eth0" {
					return nil
				}
			}
			return fmt.Errorf("%s: eth0 has no link-local address yet", h.Name)
		})
	})
}

// Sysctl sets a value in the host's namespace; the key is a path below
// /proc/sys.
func (h *Host) Sysctl(key, value string) error {
	return h.Do(func() error { return os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0) })
}

// SetResolvConf replaces what programs started from now on see as
// /etc/resolv.conf. The default names the switch, where no name server runs, so
// that every query is refused at once.
func (h *Host) SetResolvConf(t testing.TB, text string) {
	t.Helper()
	Must(t, os.WriteFile(h.resolvConf(), []byte(text), 0o644))
}

func (h *Host) resolvConf() string { return filepath.Join(h.Dir, "resolv.conf") }

// Namespace is the path of the host's network namespace.
func (h *Host) Namespace() string { return nsPath(h.namespace) }

// Net is the switch that the host is joined to.
func (h *Host) Net() *Net { return h.net }

// CgroupPath is the path of a child cgroup, "" for the host's own.
func (h *Host) CgroupPath(child string) string { return filepath.Join(h.Cgroup, child) }

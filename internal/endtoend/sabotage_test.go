// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"tacit/internal/testhost"
)

// sabotage is something done to a host, and what status must then say.
type sabotage struct {
	name string
	harm func(*testing.T, *fixture) (undo func())
	// One of these is set. repaired: the daemon repairs it and status names the
	// repair. shown: status exits with 1 and says this until undo. named: status
	// exits with 0 and says this.
	repaired, shown, named string
}

func sabotages() []sabotage {
	nothing := func() {}
	script := func(harm, undo string) func(*testing.T, *fixture) func() {
		return func(t *testing.T, f *fixture) func() {
			f.host.Sh(t, harm)
			if undo == "" {
				return nothing
			}
			return func() { f.host.Sh(t, undo) }
		}
	}
	detach := func(hook string) func(*testing.T, *fixture) func() {
		return func(t *testing.T, f *fixture) func() { f.host.Detach(t, "link_"+hook); return nothing }
	}
	empty := func(pin string) func(*testing.T, *fixture) func() {
		return func(t *testing.T, f *fixture) func() { f.host.Empty(t, pin); return nothing }
	}
	remove := func(pin string) func(*testing.T, *fixture) func() {
		return func(t *testing.T, f *fixture) func() {
			if err := os.Remove(f.host.Pin(pin)); err != nil {
				t.Fatal(err)
			}
			return nothing
		}
	}
	thirdParty := func(hook string, what testhost.ThirdParty) func(*testing.T, *fixture) func() {
		return func(t *testing.T, f *fixture) func() { return f.host.AttachThirdParty(t, hook, what) }
	}
	return []sabotage{
		{name: "connect4 detached", harm: detach("connect4"), repaired: "hook connect4"},
		{name: "sendmsg6 detached", harm: detach("sendmsg6"), repaired: "hook sendmsg6"},
		{name: "sk_lookup detached", harm: detach("lookup"), repaired: "hook lookup"},
		{name: "sockops detached", harm: detach("sockops"), repaired: "hook sockops"},
		{name: "program replaced in tacit's link", repaired: "hook connect6", harm: func(t *testing.T, f *fixture) func() {
			f.host.Swap(t, "link_connect6", "connect6")
			return nothing
		}},
		{name: "link unpinned", harm: remove("link_egress"), repaired: "hook egress"},
		{name: "map unpinned", harm: remove("guards"), repaired: "map guards"},
		{name: "intentions emptied", harm: empty("intentions"), repaired: "map intentions"},
		{name: "workloads emptied", harm: empty("workloads"), repaired: "map workloads"},
		{name: "ports emptied", harm: empty("ports"), repaired: "map ports"},
		{name: "settings zeroed", harm: empty("settings"), repaired: "map settings"},
		{name: "resolvers emptied", harm: empty("resolvers"), repaired: "map resolvers"},
		{name: "listeners emptied", harm: empty("listeners"), repaired: "map listeners"},
		{name: "answers emptied", harm: empty("answers"), repaired: "map resolvers"},

		{name: "third-party program rewrites connect4", harm: thirdParty("connect4", testhost.Rewriting), shown: "probe capture4"},
		{name: "third-party program refuses connect6", harm: thirdParty("connect6", testhost.Refusing), shown: "probe capture6"},
		{name: "third-party program refuses sendmsg4", harm: thirdParty("sendmsg4", testhost.Refusing), shown: "probe names4"},
		{name: "third-party program lets everything pass", harm: thirdParty("connect4", testhost.Passing), named: "third_party (id"},

		{name: "chains flushed", harm: script("iptables -t mangle -F; ip6tables -t mangle -F", ""), repaired: "routes and rules"},
		{name: "nft flushed", harm: script("nft flush ruleset 2>/dev/null || iptables -t mangle -F", ""), repaired: "routes and rules"},
		{name: "routes flushed", harm: script("ip route flush table local proto 116", ""), repaired: "routes and rules"},
		{name: "rule deleted", harm: script("ip rule del priority 1160", ""), repaired: "routes and rules"},
		{name: "third-party route takes a virtual address", shown: "240.64.0.1/32 dev eth0 table local",
			harm: script("ip route add table local 240.64.0.1/32 dev eth0", "ip route del table local 240.64.0.1/32")},
		{name: "third-party route that is never used", named: "240.64.0.1/32 dev eth0",
			harm: script("ip route add 240.64.0.1/32 dev eth0", "ip route del 240.64.0.1/32")},
		{name: "lo down", harm: script("ip link set lo down", "ip link set lo up"), shown: "loopback interface is down"},

		{name: "src_valid_mark on all interfaces", shown: "src_valid_mark is 1 on all",
			harm: script("sysctl -qw net.ipv4.conf.all.src_valid_mark=1", "sysctl -qw net.ipv4.conf.all.src_valid_mark=0")},
		{name: "src_valid_mark on a container's veth", shown: "src_valid_mark is 1 on box1",
			harm: script("sysctl -qw net.ipv4.conf.box1.src_valid_mark=1", "sysctl -qw net.ipv4.conf.box1.src_valid_mark=0")},
		{name: "strict rp_filter that drops packets", shown: "rp_filter is 1 (strict) on box1", harm: func(t *testing.T, f *fixture) func() {
			f.box.Run(t, "app", "curl", "-s", "--max-time", "1", "http://db:8000/") // the host has a neighbour entry for it from now on
			f.host.Sh(t, "sysctl -qw net.ipv4.conf.all.rp_filter=1; ip route add "+f.box.Addr.String()+"/32 dev eth0")
			return func() {
				f.host.Sh(t, "sysctl -qw net.ipv4.conf.all.rp_filter=0; ip route del "+f.box.Addr.String()+"/32")
			}
		}},

		{name: "strict rp_filter that drops nothing", named: "rp_filter is 1 (strict) on ",
			harm: script("sysctl -qw net.ipv4.conf.all.rp_filter=1", "sysctl -qw net.ipv4.conf.all.rp_filter=0")},

		{name: "lane port closed", harm: script("ss -K state listening sport = :7947", ""), repaired: "lane port"},
		{name: "lane port taken by another program", harm: steal, shown: "lane port (tcp"},
		{name: "listener for captured connections closed", repaired: "captured connections",
			harm: func(t *testing.T, f *fixture) func() {
				f.host.Sh(t, "ss -K state listening sport = :"+f.port(t, "listen4"))
				return nothing
			}},
		{name: "listener for DNS closed", repaired: "listener for the names", harm: func(t *testing.T, f *fixture) func() {
			f.host.Sh(t, "ss -K state listening sport = :"+f.port(t, "names"))
			return nothing
		}},

		{name: "daemon moved out of its cgroup", repaired: "daemon's cgroup", harm: func(t *testing.T, f *fixture) func() {
			f.host.Sh(t, fmt.Sprintf("echo %d >%s/cgroup.procs", f.host.Current(t).PID(), f.host.Cgroup))
			return nothing
		}},
		{name: "another process in the daemon's cgroup", shown: "is in it, too", harm: func(t *testing.T, f *fixture) func() {
			p := f.host.Start(t, "tacit/daemon", "sleep", "600")
			return func() { p.Signal(syscall.SIGKILL); <-p.Ended() }
		}},
		{name: "gossip port closed", shown: "gossip port (tcp", harm: func(t *testing.T, f *fixture) func() {
			f.host.Sh(t, "ss -K state listening sport = :7946")
			return func() {
				f.host.Stop(t)
				f.host.Daemon(f.t)
			}
		}},
	}
}

// steal takes the lane port while the daemon is stopped by SIGSTOP.
func steal(t *testing.T, f *fixture) func() {
	f.host.Current(t).Signal(syscall.SIGSTOP)
	f.host.Sh(t, "ss -K state listening sport = :7947")
	at := fmt.Sprintf("%s:7947", f.host.Addr)
	thief := f.host.Start(t, "user", f.host.Bin("probe"), "listen", at)
	f.host.AwaitListener(t, 7947)
	f.host.Current(t).Signal(syscall.SIGCONT)
	return func() { thief.Signal(syscall.SIGKILL); <-thief.Ended() }
}

// port finds one of the daemon's ports that differ at every start: "listen4" is
// that for captured IPv4 connections, "names" that for DNS.
func (f *fixture) port(t *testing.T, which string) string {
	t.Helper()
	kind := map[string]string{"listen4": "-Hltn", "names": "-Hlun"}[which]
	rules, _ := f.host.Run(t, "", "iptables-save", "-t", "mangle")
	out, _ := f.host.Run(t, "", "ss", kind, "src 127.0.0.1")
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		_, port, ok := strings.Cut(fields[3], "127.0.0.1:")
		if ok && strings.Contains(rules, "-d 240.64.0.0/12 ! -i lo -p tcp -m socket --transparent -j TPROXY --on-port "+port+" ") == (which == "listen4") &&
			(which == "listen4" || !strings.Contains(rules, "--on-port "+port+" ")) {
			return port
		}
	}
	t.Fatalf("no port for %s in %s", which, out)
	return ""
}

// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"tacit/internal/testhost"
)

// sabotage is one row: harm is done, and what status must then say.
type sabotage struct {
	name string
	harm func(*bed) (undo func())
	// Of these one is given. repaired: it works again, and this is told of.
	// shown: status exits 1 and says this, until it is undone. named: nothing
	// is wrong, and status says this all the same.
	repaired, shown, named string
}

func sabotages() []sabotage {
	nothing := func() {}
	script := func(harm, undo string) func(*bed) func() {
		return func(b *bed) func() {
			b.sh(harm)
			if undo == "" {
				return nothing
			}
			return func() { b.sh(undo) }
		}
	}
	detach := func(hook string) func(*bed) func() {
		return func(b *bed) func() { b.host.Detach(b.t, "link_"+hook); return nothing }
	}
	empty := func(pin string) func(*bed) func() {
		return func(b *bed) func() { b.host.Empty(b.t, pin); return nothing }
	}
	remove := func(pin string) func(*bed) func() {
		return func(b *bed) func() {
			if err := os.Remove(b.host.Pin(pin)); err != nil {
				b.t.Fatal(err)
			}
			return nothing
		}
	}
	meddle := func(hook string, what testhost.Meddling) func(*bed) func() {
		return func(b *bed) func() { return b.host.Meddle(b.t, hook, what) }
	}
	return []sabotage{
		{name: "connect4 detached", harm: detach("connect4"), repaired: "hook connect4"},
		{name: "sendmsg6 detached", harm: detach("sendmsg6"), repaired: "hook sendmsg6"},
		{name: "sk_lookup detached", harm: detach("lookup"), repaired: "hook lookup"},
		{name: "sockops detached", harm: detach("sockops"), repaired: "hook sockops"},
		{name: "another program in our link", repaired: "hook connect6", harm: func(b *bed) func() {
			b.host.Swap(b.t, "link_connect6", "connect6")
			return nothing
		}},
		{name: "link unpinned", harm: remove("link_egress"), repaired: "hook egress"},
		{name: "map unpinned", harm: remove("guards"), repaired: "map guards"},
		{name: "intentions emptied", harm: empty("intentions"), repaired: "map intentions"},
		{name: "workloads emptied", harm: empty("workloads"), repaired: "map workloads"},
		{name: "ports emptied", harm: empty("ports"), repaired: "map ports"},
		{name: "settings zeroed", harm: empty("settings"), repaired: "map settings"},
		{name: "resolvers emptied", harm: empty("resolvers"), repaired: "map resolvers"},
		{name: "listeners taken out", harm: empty("listeners"), repaired: "map listeners"},
		{name: "answers emptied", harm: empty("answers"), repaired: "map resolvers"},

		{name: "others rewrite connect4", harm: meddle("connect4", testhost.Rewriting), shown: "probe capture4"},
		{name: "others refuse connect6", harm: meddle("connect6", testhost.Refusing), shown: "probe capture6"},
		{name: "others refuse sendmsg4", harm: meddle("sendmsg4", testhost.Refusing), shown: "probe names4"},
		{name: "others do no harm", harm: meddle("connect4", testhost.Passing), named: "meddling (id"},

		{name: "chains flushed", harm: script("iptables -t mangle -F; ip6tables -t mangle -F", ""), repaired: "routes and rules"},
		{name: "nft flushed", harm: script("nft flush ruleset 2>/dev/null || iptables -t mangle -F", ""), repaired: "routes and rules"},
		{name: "routes flushed", harm: script("ip route flush table local proto 116", ""), repaired: "routes and rules"},
		{name: "rule deleted", harm: script("ip rule del priority 1160", ""), repaired: "routes and rules"},
		{name: "route of others takes a virtual address away", shown: "240.64.0.1/32 dev eth0 table local",
			harm: script("ip route add table local 240.64.0.1/32 dev eth0", "ip route del table local 240.64.0.1/32")},
		{name: "route of others that nobody asks", named: "240.64.0.1/32 dev eth0",
			harm: script("ip route add 240.64.0.1/32 dev eth0", "ip route del 240.64.0.1/32")},
		{name: "lo down", harm: script("ip link set lo down", "ip link set lo up"), shown: "loopback interface is down"},

		{name: "src_valid_mark", shown: "src_valid_mark is 1 on all",
			harm: script("sysctl -qw net.ipv4.conf.all.src_valid_mark=1", "sysctl -qw net.ipv4.conf.all.src_valid_mark=0")},
		{name: "src_valid_mark on a container's veth", shown: "src_valid_mark is 1 on box1",
			harm: script("sysctl -qw net.ipv4.conf.box1.src_valid_mark=1", "sysctl -qw net.ipv4.conf.box1.src_valid_mark=0")},
		{name: "strict rp_filter where it drops", shown: "rp_filter is 1 (strict) on box1", harm: func(b *bed) func() {
			b.box.Run(b.t, "app", "curl", "-s", "--max-time", "1", "http://db:8000/") // the host has heard of it from now on
			b.sh("sysctl -qw net.ipv4.conf.all.rp_filter=1; ip route add " + b.box.Addr.String() + "/32 dev eth0")
			return func() { b.sh("sysctl -qw net.ipv4.conf.all.rp_filter=0; ip route del " + b.box.Addr.String() + "/32") }
		}},

		{name: "strict rp_filter where it does no harm", named: "rp_filter is 1 (strict) on ",
			harm: script("sysctl -qw net.ipv4.conf.all.rp_filter=1", "sysctl -qw net.ipv4.conf.all.rp_filter=0")},

		{name: "lane port closed", harm: script("ss -K state listening sport = :7947", ""), repaired: "lane port"},
		{name: "lane port stolen", harm: steal, shown: "lane port (tcp"},
		{name: "captured connections' listener closed", repaired: "captured connections",
			harm: func(b *bed) func() { b.sh("ss -K state listening sport = :" + b.port("listen4")); return nothing }},
		{name: "names' listener closed", repaired: "listener for the names", harm: func(b *bed) func() {
			b.sh("ss -K state listening sport = :" + b.port("names"))
			return nothing
		}},

		{name: "daemon moved out of its cgroup", repaired: "daemon's cgroup", harm: func(b *bed) func() {
			move(b.t, b.daemon.PID(), b.host.Cgroup)
			return nothing
		}},
		{name: "somebody in the daemon's cgroup", shown: "is in it, too", harm: func(b *bed) func() {
			p := b.host.Start(b.t, "tacit/daemon", "sleep", "600")
			return func() { p.Signal(syscall.SIGKILL); <-p.Ended() }
		}},
		{name: "gossip port closed", shown: "gossip port (tcp", harm: func(b *bed) func() {
			b.sh("ss -K state listening sport = :7946")
			return func() {
				b.host.Stop(b.t)
				b.daemon = b.host.Daemon(b.t)
			}
		}},
	}
}

// steal takes the lane port while the daemon can't do anything about it.
func steal(b *bed) func() {
	b.daemon.Signal(syscall.SIGSTOP)
	b.sh("ss -K state listening sport = :7947")
	at := fmt.Sprintf("%s:7947", b.host.Addr)
	thief := b.host.Start(b.t, "user", b.host.Bin("probe"), "listen", at)
	testhost.Eventually(b.t, seenWithin, "the thief listens", func() error {
		out, _ := b.host.Run(b.t, "", "ss", "-Hltn", "sport = :7947")
		if !strings.Contains(out, ":7947") {
			return fmt.Errorf("nobody listens: %s", thief.Output())
		}
		return nil
	})
	b.daemon.Signal(syscall.SIGCONT)
	return func() { thief.Signal(syscall.SIGKILL); <-thief.Ended() }
}

// port finds one of the daemon's free ports: of captured IPv4 connections, or
// of the names that the host's resolver is asked for.
func (b *bed) port(which string) string {
	b.t.Helper()
	kind := map[string]string{"listen4": "-Hltn", "names": "-Hlun"}[which]
	rules, _ := b.host.Run(b.t, "", "iptables-save", "-t", "mangle")
	out, _ := b.host.Run(b.t, "", "ss", kind, "src 127.0.0.1")
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		_, port, ok := strings.Cut(fields[3], "127.0.0.1:")
		if ok && strings.Contains(rules, "-d 240.64.0.0/12 ! -i lo -p tcp -m socket --transparent -j TPROXY --on-port "+port+" ") == (which == "listen4") &&
			(which == "listen4" || !strings.Contains(rules, "--on-port "+port+" ")) {
			return port
		}
	}
	b.t.Fatalf("no port for %s in %s", which, out)
	return ""
}

// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"slices"
	"strings"
	"testing"
)

// scene is a change that root makes to a host, and the rows tried while it lasts.
type scene struct {
	vector   string
	on       string // a host, or several: host1 host2 outside
	do, undo string // for sh, with places
	rows     []row
}

// scenes runs all scenes, one after the other.
func (f *fixture) scenes(t *testing.T) {
	for _, s := range slices.Concat(translations(), routes(), kernelSettings(), neighbours()) {
		f.scene(t, s)
	}
}

func (f *fixture) scene(t *testing.T, s scene) {
	t.Helper()
	if !chosen(s.vector) {
		return
	}
	for i := range s.rows {
		s.rows[i].vector = s.vector
	}
	s.rows = slices.DeleteFunc(s.rows, func(r row) bool {
		open := isOpen(r, up)
		if open {
			f.table.leave(r.vector, up)
		}
		return open
	})
	if len(s.rows) == 0 {
		return
	}
	f.everywhere(s.on, s.do)
	defer func() {
		f.everywhere(s.on, s.undo)
		for from, to := range map[string]string{"web": "{v4}:{port}", "box app": "[{v6}]:{port}"} {
			await(t, "db answers "+from+" after "+s.vector, "ok", func() string { return f.attempt(from, "AFTER", to, "") })
		}
	}()
	f.rows(t, up, s.rows)
}

func (f *fixture) everywhere(hosts, line string) {
	f.t.Helper()
	for name := range strings.FieldsSeq(hosts) {
		f.hostNamed(name).Sh(f.t, f.place(line))
	}
}

// tries are a scene's usual rows, with the results wanted of allowed and of denied
// callers.
func tries(allowed, denied string, ways ...string) []row {
	if len(ways) == 0 {
		ways = []string{"limit=1", "limit=1 source={host1}"}
	}
	rows := cross("", allowed, []string{"web"}, []string{"{v4}", "{real4}"}, ways)
	rows = append(rows, cross("", allowed, []string{"web"}, []string{"[{v6}]"}, []string{"limit=1"})...)
	rows = append(rows, cross("", allowed, []string{"box app"}, []string{"{v4}", "[{v6}]"}, []string{"limit=1"})...)
	rows = append(rows, cross("", denied, []string{"evil", "nobody"}, []string{"{v4}", "{real4}"}, ways)...)
	return append(rows, cross("", denied, []string{"evil", "box worse"}, []string{"{v4}", "[{v6}]"}, []string{""})...)
}

const (
	okOrNot      = "ok|" + notConnected
	notConnected = refusedOrReset + "|connect: timeout|connect: EHOSTUNREACH|connect: ENETUNREACH|connect: EPERM|connect: EINVAL|recv: timeout|closed late|send: EPERM"
)

// translations are third-party NAT rules, like those that publish ports.
func translations() []scene {
	const on, off4, off6 = "iptables -t nat -A ", "iptables -t nat -D ", "ip6tables -t nat -D "
	nat := func(vector, host, rule string, rows []row) scene {
		return scene{vector: vector, on: host, do: on + rule, undo: off4 + rule, rows: rows}
	}
	toOutside := " -j DNAT --to-destination {outside}:{plain}"
	six := "OUTPUT -p tcp -d fd7a:ac17::/32 -j DNAT --to-destination [{outside6}]:{plain}"
	published := "-p tcp --dport 9999 -j REDIRECT --to-ports {port}"
	return []scene{
		nat("DNAT of the virtual range to another host", "host1", "OUTPUT -p tcp -d 240.64.0.0/12"+toOutside, tries(okOrNot, refused)),
		{vector: "DNAT of the virtual IPv6 range to another host", on: "host1", do: "ip6tables -t nat -A " + six, undo: off6 + six,
			rows: cross("", okOrNot, []string{"web"}, []string{"[{v6}]"}, []string{"limit=1", "limit=1 source6={host1 6}", "limit=1 nonblock"})},
		nat("DNAT of the virtual range to another host, for containers", "host1", "PREROUTING -p tcp -d 240.64.0.0/12"+toOutside, tries(okOrNot, refused)),
		nat("DNAT of the service's port to another host", "host1", "OUTPUT -p tcp --dport {port}"+toOutside, tries(okOrNot, refused)),
		nat("DNAT of the service's port to another host, on its node", "host2", "OUTPUT -p tcp --dport {port}"+toOutside, append(tries(okOrNot, refused),
			cross("", okOrNot, []string{"web2"}, []string{"{here4}", "127.0.0.1"}, []string{"limit=1", "limit=1 source={real4}"})...)),
		nat("REDIRECT of another port to the service's", "host2", "PREROUTING "+published,
			cross("", refused, []string{"outside", "evil", "nobody", "web", "stray2"}, []string{"{real4}:9999", "{second4}:9999"}, []string{"", "mptcp"})),
		nat("REDIRECT of another port to the service's, for its own node", "host2", "OUTPUT "+published,
			cross("", refused, deniedHere(), []string{"127.0.0.1:9999", "{real4}:9999"}, []string{""})),
		nat("DNAT of the lane port to another host", "host1", "OUTPUT -p tcp --dport 7947"+toOutside, tries(okOrNot, refused)),
		{vector: "third-party TPROXY to the service's port", on: "host2",
			do:   "iptables -t mangle -A PREROUTING -p tcp --dport 9999 -j TPROXY --on-port {port} --on-ip {real4} --tproxy-mark 0x1000",
			undo: "iptables -t mangle -D PREROUTING -p tcp --dport 9999 -j TPROXY --on-port {port} --on-ip {real4} --tproxy-mark 0x1000",
			rows: cross("", notConnected, []string{"outside", "evil", "stray2"}, []string{"{real4}:9999"}, []string{""})},
	}
}

// routes are third-party routes and rules before tacit's, or more specific.
func routes() []scene {
	early := "ip rule add pref 0 to 240.64.0.0/12 lookup 100; ip route add default via {outside} table 100; " +
		"ip rule add pref 5 lookup local; ip rule del pref 0 lookup local; "
	late := "ip rule add pref 0 lookup local; ip rule del pref 5 lookup local; ip rule del pref 0 lookup 100; ip route del default table 100"
	return []scene{
		{vector: "third-party routes more specific than tacit's", on: "host1",
			do:   "ip route add {v4}/32 via {outside}; ip -6 route add {v6}/128 via {outside6}; ip route add 240.0.0.0/4 via {outside}",
			undo: "ip route del {v4}/32; ip -6 route del {v6}/128; ip route del 240.0.0.0/4",
			rows: tries("ok", refused)},
		{vector: "third-party rule before the local table", on: "host1", do: early, undo: late, rows: tries(okOrNot, refused)},
		{vector: "third-party rule for a container's packets before the local table", on: "host1",
			do: "ip rule add pref 0 to 240.64.0.0/12 iif {veth box} lookup 100; ip route add default via {outside} table 100; " +
				"ip rule add pref 5 lookup local; ip rule del pref 0 lookup local",
			undo: "ip rule add pref 0 lookup local; ip rule del pref 5 lookup local; ip rule del pref 0 lookup 100; ip route del default table 100",
			rows: tries(okOrNot, refused)},
		{vector: "a host outside routes the virtual ranges to a node", on: "outside",
			do:   "ip route add 240.64.0.0/12 via {real4}; ip -6 route add fd7a:ac17::/32 via {real6}",
			undo: "ip route del 240.64.0.0/12; ip -6 route del fd7a:ac17::/32",
			rows: cross("", unreachable, []string{"outside"}, []string{"{here4}", "[{here6}]", "{v4}", "240.65.0.1", "{here4}:80"}, []string{"", "nonblock", "fastopen", "mptcp"})},
		{vector: "local routes for addresses of no interface", on: "host2",
			do:   "ip route add local 203.0.113.0/24 dev lo; ip -6 route add local 2001:db8:7::/64 dev lo; ip addr add 192.0.2.9/32 dev lo",
			undo: "ip route del local 203.0.113.0/24 dev lo; ip -6 route del local 2001:db8:7::/64 dev lo; ip addr del 192.0.2.9/32 dev lo",
			rows: cross("", refused, deniedHere(), []string{"203.0.113.5", "[2001:db8:7::5]", "[::ffff:203.0.113.5]"}, []string{"", "mptcp"})},
		{vector: "lo down", on: "host1", do: "ip link set lo down", undo: "ip link set lo up",
			rows: append(tries(okOrNot, notConnected, "limit=1"), cross("", notConnected, []string{"evil", "nobody"}, []string{"[{v6}]"}, []string{"limit=1", "fastopen", "udp=connected", "limit=1 nonblock"})...)},
		{vector: "MPTCP endpoints on the caller's node", on: "host1",
			do: "ip mptcp limits set subflows 8 add_addr_accepted 8; ip addr add 10.87.250.1/24 dev eth0; " +
				"ip mptcp endpoint add 10.87.250.1 dev eth0 subflow; ip mptcp endpoint add {host1} dev eth0 subflow",
			undo: "ip mptcp endpoint flush; ip addr del 10.87.250.1/24 dev eth0",
			rows: append(cross("", "ok", []string{"web"}, []string{"{v4}", "{mp4}:{mptcp}", "{real4}:{mptcp}"}, []string{"mptcp times=20"}),
				cross("", refused, []string{"evil", "nobody"}, []string{"{v4}", "{mp4}:{mptcp}", "{real4}:{mptcp}"}, []string{"mptcp"})...)},
		{vector: "MPTCP endpoints announced by the service's node", on: "host2",
			do:   "ip mptcp limits set subflows 8 add_addr_accepted 8; ip mptcp endpoint add {second4} dev eth0 signal; ip mptcp endpoint add {real4} dev eth0 signal",
			undo: "ip mptcp endpoint flush",
			rows: append(cross("", "ok", []string{"web", "web2"}, []string{"{mp4}:{mptcp}"}, []string{"mptcp times=20"})[:1],
				cross("", "ok", []string{"web2"}, []string{"127.0.0.1:{mptcp}"}, []string{"mptcp times=20"})...)},
	}
}

// kernelSettings are sysctls that a host's owner may have set.
func kernelSettings() []scene {
	set := func(vector, hosts, key, on, off string, rows []row) scene {
		return scene{vector: vector, on: hosts, do: "sysctl -qw " + strings.ReplaceAll(key, " ", "="+on+" ") + "=" + on,
			undo: "sysctl -qw " + strings.ReplaceAll(key, " ", "="+off+" ") + "=" + off, rows: rows}
	}
	frames := []row{
		{from: "outside", to: "127.0.0.1:{port}", with: "frame={outside} mac={mac2}", want: "reset|silence"},
		{from: "outside", to: "127.0.0.9:{shut}", with: "frame={outside} mac={mac2}", want: "reset|silence"},
		{from: "outside", to: "{real4}:{port}", with: "frame={outside} mac={mac2}", want: "reset"},
		{from: "outside", to: "{real4}:{port}", with: "frame={real4} mac={mac2}", want: "reset|silence"},
		{from: "outside", to: "{real4}:{port}", with: "frame=127.0.0.1 mac={mac2}", want: "reset|silence"},
	}
	return []scene{
		set("sysctl tcp_syncookies=2", "host1 host2", "net.ipv4.tcp_syncookies", "2", "1", tries("ok", refused)),
		set("sysctl route_localnet", "host2", "net.ipv4.conf.all.route_localnet net.ipv4.conf.eth0.route_localnet", "1", "0", append(tries("ok", refused), frames...)),
		set("sysctl accept_local", "host2", "net.ipv4.conf.all.accept_local net.ipv4.conf.eth0.accept_local", "1", "0", append(tries("ok", refused), frames...)),
		set("sysctl tcp_fwmark_accept and fwmark_reflect", "host1 host2", "net.ipv4.tcp_fwmark_accept net.ipv4.fwmark_reflect", "1", "0",
			append(tries("ok", refused), cross("", unreachable, deniedHere(), []string{"8.8.8.8", "{unused}"}, []string{"mark=0x1000 limit=0.5"})...)),
		set("sysctl accept_source_route", "host2", "net.ipv4.conf.all.accept_source_route net.ipv4.conf.eth0.accept_source_route net.ipv4.ip_forward", "1", "0", append(tries("ok", refused),
			cross("", notConnected+"|srr: EPERM", []string{"outside", "evil"}, []string{"{real4}", "127.0.0.1", "{here4}"}, []string{"srr={real4} limit=0.5", "srr={second4} limit=0.5"})...)),
		set("sysctl seg6_enabled", "host2", "net.ipv6.conf.all.seg6_enabled net.ipv6.conf.eth0.seg6_enabled net.ipv6.conf.all.forwarding", "1", "0", append(tries("ok", refused),
			cross("", notConnected, []string{"outside", "evil"}, []string{"[{second6}]", "[{here6}]", "[::1]"}, []string{"rthdr={real6} limit=0.5"})...)),
		set("sysctl rp_filter=2", "host1 host2", "net.ipv4.conf.all.rp_filter", "2", "0", tries("ok", refused)),
		set("sysctl ip_early_demux=0", "host1 host2", "net.ipv4.ip_early_demux net.ipv4.tcp_early_demux", "0", "1", tries("ok", refused)),
		set("sysctl bridge-nf-call-iptables, as Docker sets it", "host1", "net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables", "1", "0", append(
			cross("", "ok", []string{"dock app"}, []string{"{v4}", "[{v6}]"}, []string{""}), cross("", refused, []string{"dock worse"}, []string{"{v4}", "{real4}"}, []string{""})...)),
	}
}

// neighbours are other devices with addresses of the service's network.
func neighbours() []scene {
	return []scene{
		{vector: "macvlan on the service's node", on: "host2",
			do:   "ip link add mv0 link eth0 type macvlan mode bridge; ip addr add {unused}/24 dev mv0; ip link set mv0 up",
			undo: "ip link del mv0",
			rows: append(cross("", refused, []string{"outside", "evil2", "nobody2"}, []string{"{unused}"}, []string{""}),
				cross("", refused, deniedHere(), []string{"{unused}", "{real4}"}, []string{"device=mv0", "device=eth0"})...)},
		{vector: "tun device with a route for the service's address", on: "host1",
			do:   "ip tuntap add dev tun7 mode tun; ip addr add 10.99.0.1/24 dev tun7; ip link set tun7 up; ip route add {real4}/32 dev tun7 metric 1",
			undo: "ip link del tun7", rows: cross("", refused, []string{"evil", "nobody"}, []string{"{v4}", "{real4}"}, []string{"", "fastopen", "device=tun7"})},
	}
}

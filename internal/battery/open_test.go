// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"os"
	"slices"
	"strings"
)

// hole names rows that don't hold today. They are tried only where TACIT_OPEN
// is set, and fail there. An empty field fits any row; a list is separated by |.
type hole struct {
	vector, from, to, with string
	in                     string // phases
	today, must            string
}

// open is everything that is wrong today and known. What is mended moves out.
func open() []hole {
	return []hole{
		{from: "web", to: "[{real6}]:{port}|{second4}:{port}|[{second6}]:{port}|[::ffff:{second4}]:{port}", in: string(up),
			today: "refused: other nodes know one address of an instance's node, so that these go out plain, to a guard that refuses them",
			must:  "carried in mTLS like calls to the known address"},
		{vector: "same node, real addresses|IPv6 only: same node, real address", from: "web2|db", to: "[{known6}]:{port}|{real4}:{port}|[{real6}]:{port}|[::ffff:{real4}]:{port}|{second4}:{port}|[{second6}]:{port}|[::ffff:{second4}]:{port}",
			today: "refused: the hook lets them pass, and the guard takes them for the network's, since a SYN to an own address comes in by eth0's index, not by lo's",
			must:  "ok, straight from program to program"},
		{vector: "our mark, to addresses that nobody has", to: "[2001:db8::1]:{port}|8.8.8.8:{port}|{nowhere}:{port}|240.1.1.1:{port}",
			today: "SO_MARK 0x1000 leads into our own table, where everything is local: the SYN comes in by lo for an address that locals don't have, and a listener on every address takes it",
			must:  "refused"},
		{vector: "raw sockets, same node",
			today: "accepted: a SYN from a raw socket passes no connect hook, and the guard lets in what comes by lo",
			must:  "a reset, or nothing"},
		{from: "box app|dock app|box2 app|inner app|stray|stray2|inner stray", in: string(killed),
			today: "a time-out: the hook allows it, nobody listens for what TPROXY steers, and the packet is dropped",
			must:  "refused at once"},
		{vector: "NAT: the range to another host|NAT: the range to another host, IPv6|NAT: the service's port to another host", from: "web", with: "limit=1 source={host1}|limit=1 source6={host1 6}",
			today: "the canary leaves in clear: with a source address that may leave the host, the rule turns an allowed, captured connection to the other host",
			must:  "a captured connection's packets never leave by another device than loopback"},
		{vector: "NAT: the service's port to another host, on its node", from: "web2", with: "limit=1 source={real4}",
			today: "the same with a same-node pair",
			must:  "a same-node pair's packets never leave by another device than loopback"},
		{vector: "NAT: another port published as the service's, on its node", from: "evil2|nobody2",
			today: "accepted: the hook sees the published port, which is nobody's, and the guard lets in what comes by lo",
			must:  "refused"},
		{vector: "more addresses are this host's than are listed",
			today: "accepted: local routes make addresses that locals doesn't have; the hook lets them pass, and the guard what comes by lo",
			must:  "refused"},
		{vector: "bridges call iptables, as Docker sets it", from: "dock app",
			today: "refused: TPROXY runs at the bridge, and the socket that it assigned is dropped before IP has the packet",
			must:  "ok"},
		{vector: "tcp_fwmark_accept", from: "box app",
			today: "a time-out: the accepted socket gets TPROXY's mark, and its answers go back to this host",
			must:  "ok, or status says why not"},
		{vector: "bound to a device late", from: "web2", to: "[::1]:{lab}|[{here lab6}]:{lab}",
			today: "the canary leaves in clear: bound to eth0 after connect(), the pair's packets for ::1 leave by the default route",
			must:  "a same-node pair's packets never leave by another device than loopback"},
		{from: "evil|nobody", to: "[{real6}]:{port}", with: "fastopen|fastopen-connect|fastopen cookie=[{real6}]:{plain}|ring fastopen|ring=async fastopen|ring fastopen cookie={real4}:{plain}",
			today: "the canary leaves with the SYN, in clear: the address isn't known to be an instance's",
			must:  "refused by connect()"},
		{from: "web", to: "[{real6}]:{port}", with: "fastopen|fastopen-connect|fastopen cookie=[{real6}]:{plain}",
			today: "the canary leaves with the SYN, in clear: the address isn't known to be an instance's",
			must:  "carried; refused with the daemon dead"},
		{vector: "a host as a router to the range",
			today: "the handshake is finished and then reset: TPROXY takes packets for the range from every device, eth0 too",
			must:  "refused, or no answer: only namespaces of this host are callers"},
		{vector: "packet sockets", to: "{here4}:{port}|{v4}:{port}|[{here6}]:{port}",
			today: "accepted, for the same reason",
			must:  "a reset, or nothing"},
		{vector: "fastopen|fastopen-connect|fastopen with a cookie", from: "web|evil|nobody", in: string(guarded),
			today: "the canary leaves with the SYN where the kernel has a cookie: the guard doesn't know which addresses are instances'",
			must:  "refused by connect(): saved records tell"},
		{vector: "connections older than the enrolment",
			today: "they go on",
			must:  "cut when the port is enrolled"},
		{vector: "a container's first moment",
			today: "refused for up to 500 ms: the cgroup isn't known before the daemon looks again",
			must:  "ok"},
		{vector: "an address that is a moment old",
			today: "accepted, until the daemon has heard of the address",
			must:  "refused"},
		{vector: "another's port behind a NAT",
			today: "the stranger is taken for the allowed program: its record is found by address and port, which a NAT made his",
			must:  "refused: the record must say more of the connection than what a NAT can imitate, as its first sequence number"},
		{vector: "listener beside the service's|listener beside the service's, its first moments", with: "::|:: steer|127.0.0.1|::1|0.0.0.0",
			today: "called, until the daemon looks at the listeners again: within 500 ms, for callers of the same node, who are led straight to the port",
			must:  "never called"},
	}
}

func isOpen(r row, p phase) bool {
	return os.Getenv("TACIT_OPEN") == "" && slices.ContainsFunc(open(), func(h hole) bool {
		return fits(h.vector, r.vector) && fits(h.from, r.from) && fits(h.to, r.to) && fits(h.with, r.with) && fits(h.in, string(p))
	})
}

// fits says whether a text is one of a hole's.
func fits(list, text string) bool {
	return list == "" || slices.Contains(strings.Split(list, "|"), text)
}

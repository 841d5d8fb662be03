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
func open() []hole { return slices.Concat(refusedWrongly(), letIn(), leaks(), late()) }

const (
	otherAddresses = "{second4}:{port}|[{second6}]:{port}|[::ffff:{second4}]:{port}"
	ownAddresses   = "{real4}:{port}|[{real6}]:{port}|[::ffff:{real4}]:{port}|[{known6}]:{port}|" + otherAddresses
	virtual        = "{v4}:{port}|[{v6}]:{port}|[::ffff:{v4}]:{port}|{here4}:{port}|[{here6}]:{port}|[::ffff:{here4}]:{port}"
	contained      = "container by veth|container by bridge and NAT|container on the service's node|nested namespace with NAT|" +
		"outside of the hooked cgroups|IPv6 only: container"
)

// refusedWrongly are allowed callers that don't get through.
func refusedWrongly() []hole {
	return []hole{
		{vector: "connect|fastopen|fastopen-connect|mptcp|mptcp nonblock|mark=0x1000|mark=1|userns|cgroupns|fastopen with a cookie", from: "web",
			to: "[{real6}]:{port}|" + otherAddresses, in: string(up),
			today: "refused: other nodes know one address of an instance's node, so that these go out plain, to a guard that refuses them",
			must:  "carried in mTLS like calls to the known address"},
		{vector: "same node, real addresses|IPv6 only: same node, real address", from: "web2|db", to: ownAddresses, in: string(up) + "|" + string(killed) + "|" + string(starting),
			today: "refused: the hook lets them pass, and the guard takes them for the network's, since a SYN to an own address comes in by eth0's index, not by lo's",
			must:  "ok, straight from program to program"},
		{vector: contained, from: "box app|dock app|box2 app|inner app|stray|stray2|inner stray", to: virtual, in: string(killed),
			today: "a time-out: the hook allows it, nobody listens for what TPROXY steers, and the packet is dropped",
			must:  "refused at once"},
		{vector: "bridges call iptables, as Docker sets it", from: "dock app",
			today: "refused: TPROXY runs at the bridge, and the socket that it assigned is dropped before IP has the packet",
			must:  "ok"},
		{vector: "tcp_fwmark_accept", from: "box app",
			today: "a time-out: the accepted socket gets TPROXY's mark, and its answers go back to this host",
			must:  "ok, or status says why not"},
		{vector: "a container's first moment",
			today: "refused for up to 500 ms: the cgroup isn't known before the daemon looks again",
			must:  "ok"},
	}
}

// letIn are denied callers that get through.
func letIn() []hole {
	return []hole{
		{vector: "our mark, to addresses that nobody has", to: "[2001:db8::1]:{port}",
			today: "accepted: SO_MARK 0x1000 leads into our own table, where everything is local: the SYN comes in by lo for an address that locals doesn't have, and a listener on every address takes it",
			must:  "refused"},
		{vector: "raw sockets, same node", to: "127.0.0.1:{port}|[::1]:{port}", with: "raw=127.0.0.1|raw={real4}|raw=::1|forge=2001:db8::7",
			today: "accepted, and with forge a whole connection: segments of a raw socket pass no connect hook, and the guard lets in what comes by lo",
			must:  "a reset, or nothing"},
		{vector: "NAT: another port published as the service's, on its node", from: "evil2|nobody2",
			today: "accepted: the hook sees the published port, which is nobody's, and the guard lets in what comes by lo",
			must:  "refused"},
		{vector: "more addresses are this host's than are listed",
			today: "accepted: local routes make addresses that locals doesn't have; the hook lets them pass, and the guard what comes by lo",
			must:  "refused"},
		{vector: "an address that is a moment old",
			today: "accepted, until the daemon has heard of the address",
			must:  "refused"},
		{vector: "a host as a router to the range",
			today: "the handshake is finished and then reset: TPROXY takes packets for the range from every device, eth0 too",
			must:  "refused, or no answer: only namespaces of this host are callers"},
		{vector: "packet sockets", to: "{here4}:{port}|{v4}:{port}|[{here6}]:{port}", in: string(up) + "|" + string(starting),
			with:  "frame={outside} mac={mac2}|frame={outside6} mac={mac2}|frame={host1} mac={mac2}|frame={host1 6} mac={mac2}",
			today: "the SYN is accepted, for the same reason",
			must:  "a reset, or nothing"},
		{vector: "another's port behind a NAT",
			today: "the stranger is taken for the allowed program: its record is found by address and port, which a NAT made his",
			must:  "refused: the record must say more of the connection than what a NAT can imitate, as its first sequence number"},
	}
}

// leaks are canaries on the wire.
func leaks() []hole {
	const fast = "fastopen no-cookie|fastopen-connect no-cookie|fastopen|fastopen-connect|fastopen cookie=[{real6}]:{plain}|ring fastopen|ring=async fastopen|ring fastopen cookie={real4}:{plain}"
	return []hole{
		{vector: "NAT: the range to another host|NAT: the range to another host, IPv6|NAT: the service's port to another host", from: "web", with: "limit=1 source={host1}|limit=1 source6={host1 6}",
			today: "with a source address that may leave the host, the rule turns an allowed, captured connection to the other host",
			must:  "a captured connection's packets never leave by another device than loopback"},
		{vector: "NAT: the service's port to another host, on its node", from: "web2", with: "limit=1 source={real4}",
			today: "the same with a same-node pair",
			must:  "a same-node pair's packets never leave by another device than loopback"},
		{vector: "bound to a device late", from: "web2", to: "[{here lab6}]:{lab}", in: string(up) + "|" + string(starting),
			today: "as with ::1, where such a call is led",
			must:  "the same"},
		{vector: "bound to a device late", from: "web2", to: "[::1]:{lab}", in: string(up) + "|" + string(killed) + "|" + string(starting),
			today: "bound to eth0 after connect(), a same-node pair's packets for ::1 leave by the default route",
			must:  "a same-node pair's packets never leave by another device than loopback"},
		{vector: "fastopen|fastopen-connect|fastopen with a cookie|fastopen without need of a cookie|io_uring", from: "web|evil|nobody", to: "[{real6}]:{port}", with: fast,
			today: "the canary leaves with the SYN: the address isn't known to be an instance's",
			must:  "refused by connect(), or carried"},
		{vector: "fastopen|fastopen-connect|fastopen with a cookie|fastopen without need of a cookie", from: "web|evil|nobody", to: "{real4}:{port}|[{real6}]:{port}|{real4}:{shut}", in: string(guarded),
			today: "the canary leaves with the SYN where the kernel has a cookie, or needs none: the guard doesn't know which addresses are instances'",
			must:  "refused by connect(): saved records tell"},
	}
}

// late is what is found out too late.
func late() []hole {
	return []hole{
		{vector: "connections older than the enrolment",
			today: "they go on",
			must:  "cut when the port is enrolled"},
		{vector: "listener beside the service's|listener beside the service's, its first moments", with: "::|:: steer|127.0.0.1|::1|0.0.0.0",
			today: "called, until the daemon looks at the listeners again: within 500 ms, for callers of the same node, who are led straight to the port",
			must:  "never called"},
	}
}

// isOpen says whether a row isn't to be tried in a phase.
func isOpen(r row, p phase) bool { return os.Getenv("TACIT_OPEN") == "" && listed(r, p) }

// listed says whether open() names a row. One that holds all the same is to be
// taken out of there.
func listed(r row, p phase) bool {
	return slices.ContainsFunc(open(), func(h hole) bool {
		return fits(h.vector, r.vector) && fits(h.from, r.from) && fits(h.to, r.to) && fits(h.with, r.with) && fits(h.in, string(p))
	})
}

// fits says whether a text is one of a hole's.
func fits(list, text string) bool {
	return list == "" || slices.Contains(strings.Split(list, "|"), text)
}

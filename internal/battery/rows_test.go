// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"regexp"
	"slices"
)

const (
	refused = "connect: ECONNREFUSED"
	// refusedOrReset is for callers that no hook sees: tacit may learn who calls only
	// after the handshake, and then resets the connection before any byte.
	refusedOrReset = refused + "|connect: ECONNRESET|closed|recv: ECONNRESET|send: ECONNRESET|send: EPIPE"
	// refusedOnSend is for sockets that connect when they are written to.
	refusedOnSend = refused + "|send: ECONNREFUSED|recv: ECONNREFUSED"
	// unreachable is for addresses that aren't db's: any error of connect().
	unreachable = refused + "|connect: ENETUNREACH|connect: EHOSTUNREACH|connect: EINVAL|connect: EACCES|connect: timeout" +
		"|connect: EADDRNOTAVAIL|connect: EPERM"
)

var withPort = regexp.MustCompile(`[^:]:(\d+|\{\w+\})$`)

// cross makes a row of each combination of a caller, a target and a way to connect;
// the default port is db's.
func cross(vector, want string, callers, targets, ways []string) []row {
	var rows []row
	for _, from := range callers {
		for _, to := range targets {
			if !withPort.MatchString(to) {
				to += ":{port}"
			}
			for _, with := range ways {
				rows = append(rows, row{vector: vector, from: from, to: to, with: with, want: want})
			}
		}
	}
	return rows
}

// killedAs sets the rows' result while the daemons are killed.
func killedAs(want string, rows []row) []row {
	for i := range rows {
		rows[i].killed = want
	}
	return rows
}

// free marks rows as outside of the mesh.
func free(rows []row) []row {
	for i := range rows {
		rows[i].free = true
	}
	return rows
}

func join(lists ...[]string) []string { return slices.Concat(lists...) }

// The addresses of db: virtual and real ones for callers on host1, and virtual and
// loopback ones on db's own node.
func virtuals() []string { return []string{"{v4}", "[{v6}]", "[::ffff:{v4}]"} }
func reals() []string {
	return []string{"{real4}", "[{real6}]", "[::ffff:{real4}]", "{second4}", "[{second6}]", "[::ffff:{second4}]"}
}
func hereVirtuals() []string { return []string{"{here4}", "[{here6}]", "[::ffff:{here4}]"} }
func loopbacks() []string {
	return []string{"127.0.0.1", "[::1]", "0.0.0.0", "[::]", "127.0.0.9", "127.255.255.254", "[::ffff:127.0.0.9]", "[::ffff:0.0.0.0]"}
}

// all is one address of each kind.
func all() []string { return []string{"{v4}", "[{v6}]", "[::ffff:{v4}]", "{real4}", "[{real6}]"} }
func allHere() []string {
	return []string{"{here4}", "[{here6}]", "127.0.0.1", "[::1]", "{real4}", "[{real6}]"}
}

func denied() []string     { return []string{"evil", "nobody"} }
func deniedHere() []string { return []string{"evil2", "nobody2"} }

// straight is connect() as every program does it.
func straight() []row {
	ways := []string{"", "nonblock"}
	rows := cross("connect", "ok", []string{"web"}, join(virtuals(), reals()), ways)
	rows = append(rows, cross("connect", refused, denied(), join(virtuals(), reals()), ways)...)
	rows = append(rows, cross("connect, link-local", refused, []string{"evil", "nobody", "outside"}, []string{"[{link6}%eth0]"}, ways)...)
	rows = append(rows, cross("connect from outside", refused, []string{"outside"}, reals(), ways)...)
	rows = append(rows, cross("other ports of a service", "ok", []string{"web"}, []string{"{v4}:80", "[{v6}]:443"}, ways[:1])...)
	rows = append(rows, cross("other ports of a service", refused, []string{"evil", "nobody"}, []string{"{v4}:80", "[{v6}]:443"}, ways[:1])...)
	rows = append(rows, cross("other ports of a service", refused, []string{"web", "evil"}, []string{"{v4}:{shut}", "[{v6}]:22"}, ways[:1])...)
	return append(rows, cross("a service that nobody may call", refused, []string{"web", "evil", "nobody", "outside"},
		[]string{"{real4}:{shut}", "[{real6}]:{shut}", "{second4}:{shut}"}, ways[:1])...)
}

// places are db's port on the addresses of the caller's node, where nobody listens,
// and virtual addresses that no service has.
func places() []row {
	own := join(loopbacks(), []string{"{host1}", "[{host1 6}]", "{gate box}"})
	rows := cross("db's port on the caller's own addresses", refused, []string{"web", "evil", "nobody"}, own, []string{""})
	empty := []string{"240.64.0.0", "240.79.255.255", "240.65.1.1", "[fd7a:ac17::]", "[fd7a:ac17::ffff:1]", "[fd7a:ac17:1::3]"}
	rows = append(rows, cross("virtual addresses that no service has", refused, []string{"web", "evil", "nobody"}, empty, []string{"", "mark=0x1000"})...)
	return append(rows, cross("virtual addresses that no service has", refused, []string{"web2", "evil2"}, empty, []string{""})...)
}

// sameNode are callers on db's own node. Connections to a real or loopback address
// aren't carried by the daemon, so that allowed ones also work without it.
func sameNode() []row {
	rows := cross("same node", "ok", []string{"web2"}, hereVirtuals(), []string{"", "nonblock"})
	rows = append(rows, killedAs("ok", cross("same node, real addresses", "ok", []string{"web2", "db"}, join(loopbacks(), reals()), []string{"", "nonblock"}))...)
	everywhere := join(hereVirtuals(), loopbacks(), reals(), []string{"{gate box2}", "{gate stray2}"})
	rows = append(rows, cross("same node", refused, deniedHere(), everywhere, []string{"", "nonblock"})...)
	rows = append(rows, cross("same node, link-local", refused, deniedHere(), []string{"[{link6}%eth0]"}, []string{"", "nonblock"})...)
	rows = append(rows, cross("a service that nobody may call", refused, []string{"web2", "evil2", "nobody2", "db"},
		[]string{"127.0.0.1:{shut}", "[::1]:{shut}", "{real4}:{shut}", "{here shut4}:{shut}"}, []string{""})...)
	ways := []string{"fastopen", "fastopen-connect", "mptcp", "mptcp nonblock", "mark=0x1000", "mark=1", "userns", "cgroupns", "ring", "ring=sqpoll", "device=lo", "source={real4}"}
	rows = append(rows, cross("same node, other kinds of sockets", refused, deniedHere(), []string{"{here4}", "127.0.0.1", "{real4}"}, ways)...)
	rows = append(rows, cross("same node, other kinds of sockets", refused, deniedHere(), []string{"[{here6}]", "[::1]", "[{real6}]"}, ways[:len(ways)-1])...)
	return append(rows, cross("same node, other kinds of sockets", "ok", []string{"web2"}, []string{"{here4}", "[{here6}]"}, []string{"mptcp", "ring", "userns", "fastopen"})...)
}

// sameNodeDirect are callers on the service's own node whose sockets are bound already,
// or whose service listens on IPv6 only. With IPv6 these go to the program, too.
func sameNodeDirect() []row {
	const bound, six = "same node, sockets that the program has bound", "same node, a listener for IPv6 only"
	rows := cross(bound, "ok", []string{"web2"}, []string{"{here4}"}, []string{"source={real4}", "source=127.0.0.9"})
	rows = append(rows, cross(bound, "ok", []string{"web2"}, []string{"[{here6}]"}, []string{"source6={real6}", "source6=::1"})...)
	rows = append(rows, cross(bound, "ok", []string{"web2"}, []string{"127.0.0.1", "{real4}"}, []string{"source=127.0.0.9"})...)
	rows = append(rows, killedAs("ok", cross(bound, "ok", []string{"web2"}, []string{"[::1]", "[{real6}]"}, []string{"source6=::1"}))...)
	rows = append(rows, cross(bound, refused, deniedHere(), []string{"{here4}", "127.0.0.1", "{real4}"}, []string{"source=127.0.0.9"})...)
	rows = append(rows, cross(bound, refused, deniedHere(), []string{"[{here6}]", "[::1]", "[{real6}]"}, []string{"source6=::1"})...)
	ways := []string{"", "nonblock", "fastopen", "mptcp", "ring"}
	virtual, own := []string{"{here six4}:{six}", "[::ffff:{here six4}]:{six}", "[{here six6}]:{six}"}, []string{"[::1]:{six}", "[{real6}]:{six}"}
	rows = append(rows, cross(six, "ok", []string{"web2"}, virtual, ways)...)
	rows = append(rows, killedAs("ok", cross(six, "ok", []string{"web2"}, own, ways[:3]))...)
	return append(rows, cross(six, refusedOnSend, deniedHere(), join(virtual, own), ways)...)
}

// forms are addresses that the kernel could take for this host's or for db's.
func forms() []row {
	short := []string{"limit=0.5"}
	special := []string{"0.0.0.1", "255.255.255.255", "224.0.0.1", "[ff02::1%eth0]", "[ff01::1%lo]", "{unused}",
		"[::{real4}]", "[::ffff:0:{real4}]", "[64:ff9b::{real4}]", "[2002:{prefix}::1]", "[fe80::5efe:{real4}%eth0]",
		"[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[::ffff:255.255.255.255]"}
	rows := cross("special addresses (broadcast, multicast, IPv4 embedded in IPv6)", unreachable, []string{"evil", "evil2", "nobody2"}, special, short)
	anywhere := []string{"{unused}", "8.8.8.8", "240.1.1.1"}
	rows = append(rows, cross("tacit's own SO_MARK, to addresses that no host has", unreachable, []string{"evil2", "nobody2", "web2"}, []string{"[2001:db8::1]", "[::ffff:8.8.8.8]"}, []string{"mark=0x1000 limit=0.5"})...)
	rows = append(rows, cross("tacit's own SO_MARK, to addresses that no host has", unreachable, []string{"evil2", "nobody2", "web2"}, anywhere, []string{"mark=0x1000 limit=0.5", "mark=0x1000 source={real4} limit=0.5"})...)
	return append(rows, cross("virtual IPv4 address embedded in IPv6", unreachable, []string{"web", "evil"}, []string{"[::{v4}]", "[64:ff9b::{v4}]", "[::ffff:0:{v4}]"}, short)...)
}

// outsideMesh are connections to ports of no service, which work as without tacit.
func outsideMesh() []row {
	rows := cross("connections outside of the mesh", "ok", []string{"web", "evil", "nobody"}, []string{"{real4}:{plain}", "[{real6}]:{plain}", "{outside}:{plain}"}, []string{"", "nonblock", "mptcp", "ring"})
	return free(append(rows, cross("connections outside of the mesh", "ok", []string{"web2", "evil2"}, []string{"127.0.0.1:{plain}", "{real4}:{plain}"}, []string{""})...))
}

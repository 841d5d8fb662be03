// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Who takes a same-node call, and the caller's address that it sees. The daemon only
// takes what can't go to the program, and each of those has its reason here.
const (
	as4 = "program 240.64.0.1"
	as6 = "program fd7a:ac17::1"

	only4    = "daemon: the socket can have no IPv4 peer, and the program listens on IPv4 only"
	only6    = "daemon: the socket can have no IPv6 peer, and the program listens on IPv6 only"
	bound    = "daemon: the program has bound the socket to another address, which NAT may change"
	subflows = "daemon: an MPTCP socket could add subflows that no hook judges"
	nobody   = refused + ": nobody listens at the program's address that was asked for"
)

// sameNodeCallers are the columns of the table: words for the helper.
var sameNodeCallers = [][]string{
	{"connect", db4},
	{"connect", mapped},
	{"connect", db6},
	{"v6only", db6},
	{"from", "127.0.0.1:0", db4},
	{"from", "0.0.0.0:4000", db4},
	{"from", "[::1]:0", db6},
	{"from", "[::ffff:127.0.0.1]:0", mapped},
	{"mptcp", db4},
	{"connect", "127.0.0.1:15432"},
	{"connect", "[::1]:15432"},
	{"v6only", "[::1]:15432"},
	{"from", "127.0.0.1:0", "127.0.0.1:15432"},
	{"from", "[::1]:0", "[::1]:15432"},
}

// listening is one program, of one or two sockets: verbs of the helper with addresses.
type listening struct {
	name, local string // local: where the daemon finds the program (dialable in node/inventory)
	sockets     [][2]string
}

var sameNodeTable = []struct {
	listeners []listening
	want      []string // for each caller
}{
	{
		[]listening{
			{"127.0.0.1", "127.0.0.1", [][2]string{{"serve", "127.0.0.1:15432"}}},
			{"0.0.0.0", "127.0.0.1", [][2]string{{"serve-4", "0.0.0.0:15432"}}},
		},
		[]string{as4, as4, as4, only4, bound, bound, only4, bound, subflows, as4, as4, only4, bound, only4},
	},
	{
		[]listening{
			{"::, both families", "127.0.0.1", [][2]string{{"serve", "[::]:15432"}}},
			{"::, both families, MPTCP", "127.0.0.1", [][2]string{{"serve-mptcp", "[::]:15432"}}},
			{"127.0.0.1 and ::1", "127.0.0.1", [][2]string{{"serve", "127.0.0.1:15432"}, {"serve", "[::1]:15432"}}},
			{"0.0.0.0 and :: with IPV6_V6ONLY", "127.0.0.1", [][2]string{{"serve-4", "0.0.0.0:15432"}, {"serve-6", "[::]:15432"}}},
		},
		[]string{as4, as4, as4, as4, bound, bound, as4, bound, subflows, as4, as4, as4, bound, as4},
	},
	{
		[]listening{
			{"::1", "::1", [][2]string{{"serve", "[::1]:15432"}}},
			{":: with IPV6_V6ONLY", "::1", [][2]string{{"serve-6", "[::]:15432"}}},
		},
		[]string{only6, as6, as6, as6, only6, only6, as6, only6, subflows, nobody, as6, as6, only6, as6},
	},
	{
		[]listening{{"the host's IPv4 address", "10.7.0.5", [][2]string{{"serve", "10.7.0.5:15432"}}}},
		[]string{as4, as4, as4, only4, bound, bound, only4, bound, subflows, nobody, as4, only4, bound, only4},
	},
	{
		[]listening{{"the host's IPv6 address", "fd00:7::5", [][2]string{{"serve", "[fd00:7::5]:15432"}}}},
		[]string{only6, as6, as6, as6, only6, only6, bound, only6, subflows, nobody, as6, as6, only6, bound},
	},
}

// sameNode is a host where db is a program of its workload, and web may call it.
type sameNode struct {
	*host
	arrived chan string // who took a connection, and the peer's address that it saw
	stop    func()      // the program
}

func newSameNode(t *testing.T, l listening, cgroup string) *sameNode {
	h := &sameNode{host: newHost(t), arrived: make(chan string, 100)}
	run(t, "ip addr add 10.7.0.5/32 dev lo", "ip addr add fd00:7::5/128 dev lo nodad")
	for _, addr := range []string{"10.7.0.5", "fd00:7::5"} {
		h.ok(h.Locals().Put(netip.MustParseAddr(addr), 1))
	}
	v4, v6 := h.proxy()
	for _, ln := range []*net.TCPListener{v4, v6} {
		go func() {
			for {
				conn, err := ln.AcceptTCP()
				if err != nil {
					return
				}
				h.arrived <- "daemon"
				defer conn.Close()
			}
		}()
	}
	var stops []func()
	for _, s := range l.sockets {
		stops = append(stops, h.program(cgroup, s[0], s[1]))
	}
	h.stop = func() {
		for _, stop := range stops {
			stop()
		}
	}
	local := Port{Local: netip.AddrPortFrom(netip.MustParseAddr(l.local), port15432)}
	h.serve(db, 5432, local)
	h.ok(h.Ports().Put(PortKey{Service: db, Port: port15432}, local))
	h.ok(h.Guards().Put(port15432, Guard{Service: db, Serving: true}))
	h.allow(Pair{web, db})
	return h
}

// program starts a server, which tells of its connections.
func (h *sameNode) program(cgroup, verb, at string) (stop func()) {
	h.t.Helper()
	cmd := h.command(cgroup, verb, at)
	in, err := cmd.StdinPipe()
	h.ok(err)
	out, err := cmd.StdoutPipe()
	h.ok(err)
	h.ok(cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		h.t.Fatalf("%s %s: %q", verb, at, lines.Text())
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines.Scan() {
			h.arrived <- "program " + netip.MustParseAddrPort(lines.Text()).Addr().Unmap().String()
		}
		_ = cmd.Wait()
	}()
	return func() { _ = in.Close(); <-ended }
}

// taken is who takes the connection that was just made.
func (h *sameNode) taken() string {
	h.t.Helper()
	select {
	case who := <-h.arrived:
		return who
	case <-time.After(5 * time.Second):
		return "nobody"
	}
}

// TestSameNode: which calls within a node go from program to program, for each kind of
// listener and of caller, and what the program sees. What doesn't has its reason.
// Denied, none of them is made, and the sweep cuts exactly those that are direct. A
// program outside of the workload that listens in its place is never called.
func TestSameNode(t *testing.T) {
	for _, rows := range sameNodeTable {
		for n, l := range rows.listeners {
			t.Run(l.name, func(t *testing.T) {
				h := newSameNode(t, l, "db")
				direct := map[string]chan struct{}{}
				for i, words := range sameNodeCallers {
					h.calls(direct, words, rows.want[i])
				}
				h.cuts(direct)
				h.stop()
				if n == 0 { // the others of the group differ in nothing that the hooks see
					h.denied()
					h.ok(h.Intentions().Put(Pair{web, db}, true))
					h.replaced(l, rows.want)
				}
			})
		}
	}
}

// calls makes one call, and keeps it open if it is direct.
func (h *sameNode) calls(direct map[string]chan struct{}, words []string, want string) {
	h.t.Helper()
	name := strings.Join(words, " ")
	if strings.HasPrefix(want, refused) {
		if out := h.do("web", words...); out != refused {
			h.t.Errorf("%s: %s, want %s", name, out, want)
		}
		return
	}
	ended := h.holding("web", words...)
	got := h.taken()
	if got != strings.SplitN(want, ":", 2)[0] && got != want {
		h.t.Errorf("%s: taken by %s, want %s", name, got, want)
	}
	if strings.HasPrefix(got, "program") {
		direct[name] = ended
	}
}

// cuts denies the pair: the sweep cuts the calls.
func (h *sameNode) cuts(direct map[string]chan struct{}) {
	h.t.Helper()
	h.ok(h.Intentions().Put(Pair{web, db}, false))
	if n, err := h.Sweep(h.t.Context()); err != nil || n != len(direct) {
		h.t.Errorf("the sweep cut %d, %v; want %d", n, err, len(direct))
	}
	for name, ended := range direct {
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			h.t.Errorf("denied, but %s lives on", name)
		}
	}
}

// denied: no call is made.
func (h *sameNode) denied() {
	h.t.Helper()
	for _, words := range sameNodeCallers {
		if words[1] == "0.0.0.0:4000" {
			continue // the port is still in use
		}
		if out := h.do("web", words...); out != refused {
			h.t.Errorf("denied: %s: %s", strings.Join(words, " "), out)
		}
	}
	h.lastEvent(Intention)
}

// replaced: a program of no workload listens in the place of db's.
func (h *sameNode) replaced(l listening, want []string) {
	h.t.Helper()
	for _, s := range l.sockets {
		defer h.program("nobody", s[0], s[1])()
	}
	for i, words := range sameNodeCallers {
		before, err := h.Counters()
		h.ok(err)
		out := h.do("web", words...)
		after, err := h.Counters()
		h.ok(err)
		switch {
		case words[1] == "0.0.0.0:4000":
		case strings.HasPrefix(want[i], "daemon") && out == "ok "+words[len(words)-1]: // which looks at the listener itself
			if who := h.taken(); who != "daemon" {
				h.t.Errorf("%s was taken by %s", strings.Join(words, " "), who)
			}
		case out != refused || strings.HasPrefix(want[i], "program") && after[Listener].Given == before[Listener].Given:
			h.t.Errorf("to another program: %s: %s, %d refusals", strings.Join(words, " "), out, after[Listener].Given-before[Listener].Given)
		}
	}
	select {
	case who := <-h.arrived:
		h.t.Errorf("the other program was called: %s", who)
	default:
	}
}

// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tacit/internal/testhost"
	"tacit/node/workload"
	"tacit/redirect/sockdiag"
)

// TestHolds: cgroup 7 is the daemon's.
func TestHolds(t *testing.T) {
	at := netip.MustParseAddrPort
	lane := port{"lane port", false, at("10.0.0.1:7947")}
	gossip := port{"gossip port", true, at("10.0.0.1:7946")}
	six := port{"captured connections", false, at("[::1]:4000")}
	sock := func(addr string, cgroup uint64) sockdiag.Listener {
		return sockdiag.Listener{Addr: at(addr), CgroupID: cgroup, UID: 33}
	}
	only6 := func(l sockdiag.Listener) sockdiag.Listener { l.V6Only = true; return l }
	for name, c := range map[string]struct {
		port port
		tcp  []sockdiag.Listener
		udp  []sockdiag.Listener
		want string
	}{
		"ours":                                  {port: lane, tcp: []sockdiag.Listener{sock("10.0.0.1:7947", 7)}},
		"ours, on every address":                {port: lane, tcp: []sockdiag.Listener{sock("0.0.0.0:7947", 7)}},
		"ours, on every address of both":        {port: lane, tcp: []sockdiag.Listener{sock("[::]:7947", 7)}},
		"ours, beside others of another port":   {port: lane, tcp: []sockdiag.Listener{sock("10.0.0.1:7947", 7), sock("10.0.0.1:80", 8)}},
		"ours, beside others of another host":   {port: lane, tcp: []sockdiag.Listener{sock("10.0.0.1:7947", 7), sock("10.0.0.2:7947", 8)}},
		"ours, beside others of another family": {port: lane, tcp: []sockdiag.Listener{sock("10.0.0.1:7947", 7), only6(sock("[::]:7947", 8))}},
		"ours, beside others of UDP":            {port: lane, tcp: []sockdiag.Listener{sock("10.0.0.1:7947", 7)}, udp: []sockdiag.Listener{sock("10.0.0.1:7947", 8)}},
		"UDP":                                   {port: gossip, udp: []sockdiag.Listener{sock("10.0.0.1:7946", 7)}, tcp: []sockdiag.Listener{sock("10.0.0.1:7946", 8)}},
		"IPv6":                                  {port: six, tcp: []sockdiag.Listener{sock("[::1]:4000", 7), sock("127.0.0.1:4000", 8)}},
		"nobody's": {port: lane,
			want: "lane port (tcp 10.0.0.1:7947): the daemon has 0 sockets there instead of one: others have closed it, restart tacitd"},
		"nobody's, of UDP": {port: gossip, tcp: []sockdiag.Listener{sock("10.0.0.1:7946", 7)},
			want: "gossip port (udp 10.0.0.1:7946): the daemon has 0 sockets there instead of one: others have closed it, restart tacitd"},
		"two of ours": {port: lane, tcp: []sockdiag.Listener{sock("10.0.0.1:7947", 7), sock("0.0.0.0:7947", 7)},
			want: "lane port (tcp 10.0.0.1:7947): the daemon has 2 sockets there instead of one: others have closed it, restart tacitd"},
		"another's": {port: lane, tcp: []sockdiag.Listener{sock("10.0.0.1:7947", 8)},
			want: "lane port (tcp 10.0.0.1:7947) is held by another program: uid 33, cgroup 8; ss -lnp says which"},
		"shared with another": {port: lane, tcp: []sockdiag.Listener{sock("10.0.0.1:7947", 7), sock("0.0.0.0:7947", 8)},
			want: "lane port (tcp 10.0.0.1:7947) is held by another program: uid 33, cgroup 8; ss -lnp says which"},
		"shared with another, of both families": {port: lane, tcp: []sockdiag.Listener{sock("10.0.0.1:7947", 7), sock("[::]:7947", 8)},
			want: "lane port (tcp 10.0.0.1:7947) is held by another program: uid 33, cgroup 8; ss -lnp says which"},
	} {
		got := ""
		if err := holds(sockdiag.Bound{TCP: c.tcp, UDP: c.udp}, c.port, func(cgroup uint64) bool { return cgroup == 7 }); err != nil {
			got = err.Error()
		}
		differs(t, name, got, c.want)
	}
}

// TestPorts names every port of the daemon, those of UDP too.
func TestPorts(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t).open(t)
	var got []string
	for _, p := range f.ports() {
		name, _, _ := strings.Cut(p.String(), " 127.0.0.1:")
		name, _, _ = strings.Cut(name, " [::1]:")
		got = append(got, name)
	}
	differs(t, "ports", strings.Join(got, "\n"), `lane port (tcp
gossip port (tcp
gossip port (udp
captured connections (tcp
names of other namespaces (tcp
names of other namespaces (udp
captured connections (tcp
names of other namespaces (tcp
names of other namespaces (udp`)
}

// TestWatchPorts: a port that others hold instead of the daemon, and a listener
// for names that they have closed, which is opened again.
func TestWatchPorts(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t).open(t)
	f.watchPorts()
	differs(t, "problems at first", wrong(f.board), "")
	testhost.Must(t, f.lane.Close())
	f.watchPorts()
	differs(t, "problems without the lane port", wrong(f.board),
		"ports: lane port (tcp 127.0.0.1:7947): the daemon has 0 sockets there instead of one: others have closed it, restart tacitd")
	start(t, f.tree, "other", testhost.Python(), "-c", "import socket, time; s = socket.create_server(('127.0.0.1', 7947)); time.sleep(600)")
	other, err := workload.ID(f.tree.Root() + "/other")
	testhost.Must(t, err)
	testhost.Eventually(t, waitFor, "the other program listens", func() error {
		f.watchPorts()
		if got, want := wrong(f.board), fmt.Sprintf("ports: lane port (tcp 127.0.0.1:7947) is held by another program: uid 0, cgroup %d; ss -lnp says which", other); got != want {
			return fmt.Errorf("%s; want %s", got, want)
		}
		return nil
	})
	differs(t, "repairs", repaired(f.board), "")
}

// TestNamesListenerReopens: one of UDP and one of TCP. Where no other can be
// opened, the next look tries again.
func TestNamesListenerReopens(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t).open(t)
	for _, network := range []string{"udp", "tcp"} {
		before := f.hooks.captures()[0]
		testhost.Eventually(t, waitFor, "the listener is served", func() error {
			return f.names.lose(fmt.Sprintf("%s 127.0.0.1:%d", network, before.Port4))
		})
		full(t, func() {
			if err := f.resolvers.renew(before.Addr); !errors.Is(err, unix.EMFILE) {
				t.Errorf("with all descriptors in use: %v", err)
			}
		})
		if f.hooks.captures()[0] != before {
			t.Errorf("programs are told of %+v", f.hooks.captures())
		}
		f.watchPorts()
		now := f.hooks.captures()
		if len(now) != 1 || now[0].Addr != before.Addr || now[0].Port4 == before.Port4 {
			t.Errorf("%s: programs are told of %+v, before of %+v", network, now, before)
		}
		for _, at := range []string{fmt.Sprintf("127.0.0.1:%d", now[0].Port4), fmt.Sprintf("[::1]:%d", now[0].Port6)} {
			conn, err := net.Dial("tcp", at)
			testhost.Must(t, err)
			_ = conn.Close()
		}
		differs(t, "problems", wrong(f.board), "")
		differs(t, "repairs", repaired(f.board), "listener for the names of 10.99.0.53: closed by others")
	}
}

// full runs f while this process can open no further descriptor.
func full(t *testing.T, f func()) {
	t.Helper()
	var was unix.Rlimit
	testhost.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	testhost.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: was.Max}))
	f()
	testhost.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was))
}

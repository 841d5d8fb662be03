// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/redirect/listen"

	"golang.org/x/sys/unix"
)

const patience = 3 * time.Second

// others is state of another program, which nothing here may change.
const others = "ip rule add fwmark 0x4000/0x4000 lookup 52 priority 5210; ip route add blackhole default table 52;" +
	"ip route add blackhole 198.51.100.0/24 proto static; ip -6 route add blackhole 2001:db8::/32 proto static metric 7;" + otherChains

// otherChains is the part of it in the mangle tables.
const otherChains = "iptables -t mangle -N OTHERS; iptables -t mangle -A PREROUTING -s 198.51.100.7 -j OTHERS; ip6tables -t mangle -A PREROUTING -s 2001:db8::7 -j ACCEPT"

// TestCaptureFromOtherNamespace connects from a second namespace to virtual addresses, breaks the host's state, repairs it,
// and takes it off.
func TestCaptureFromOtherNamespace(t *testing.T) {
	enter(t)
	there := newElsewhere(t)
	there.join(t)
	shell(t, others)
	before := snapshot(t)
	listeners, dns4, dns6 := listenAll(t)
	c := everything()
	c.Port4, c.Port6 = listeners.Ports()
	c.DNSPort4, c.DNSPort6 = dns4.Port(), dns6.Port()
	plan := NewPlan(c)
	check := func(when string) {
		t.Helper()
		if lines, err := Drift(plan); err != nil || len(lines) > 0 {
			t.Errorf("%s: drift = %q, %v", when, lines, err)
		}
		captured(t, there, listeners.TCP4, "240.64.0.9:5432")
		captured(t, there, listeners.TCP6, "[fd7a:ac17::9]:5432")
		captured(t, there, dns4.TCP, "10.99.0.53:53")
		captured(t, there, dns6.TCP, "[fd00:99::53]:53")
		answered(t, there, dns4.UDP, "10.99.0.53:53")
		answered(t, there, dns6.UDP, "[fd00:99::53]:53")
	}

	must(t, Apply(plan))
	check("applied")
	once := snapshot(t)
	must(t, Apply(plan))
	if got := snapshot(t); got != once {
		t.Errorf("a second apply changed:\n%s", difflines(once, got))
	}

	// Each breakage and what drift must name.
	for _, b := range []struct{ command, want string }{
		{"iptables -t mangle -F", "iptables -t mangle -I PREROUTING 1 -j TACIT-PREROUTING"},
		{"ip6tables -t mangle -F; ip6tables -t mangle -X", "ip6tables -t mangle -N TACIT-PREROUTING"},
		{"ip -4 route flush table local proto 116", "ip -4 route add local 240.64.0.0/12 dev lo table local"},
		{"ip -6 route del blackhole fd7a:ac17::/32 table local metric 4294967295", "ip -6 route add blackhole fd7a:ac17::/32"},
		{"ip -4 rule del priority 1160; ip -6 rule del priority 1160", "ip -6 rule add priority 1160"},
		{"ip -6 route flush table 11600", "ip -6 route add local ::/0 dev lo table 11600"},
		{"ip -6 route flush dev lo table local proto 116; ip -6 route flush dev lo table 11600", "ip -6 route add local ::/0 dev lo table 11600"},
	} {
		shell(t, b.command)
		if lines, err := Drift(plan); err != nil || !strings.Contains(strings.Join(lines, "\n"), "missing: "+b.want) {
			t.Errorf("after %q: drift = %q, %v; want %q in it", b.command, lines, err, b.want)
		}
		must(t, Apply(plan))
	}
	check("repaired")

	// Everything in the mangle tables was flushed, that of others too: the rest must be as it was.
	must(t, Cleanup())
	must(t, Cleanup())
	shell(t, "iptables -t mangle -F; iptables -t mangle -X; ip6tables -t mangle -F; "+otherChains)
	if got := snapshot(t); got != before {
		t.Errorf("cleanup left or took something:\n%s", difflines(before, got))
	}
}

// TestCleanupIsExact applies and cleans up beside state of others, with both backends of iptables.
func TestCleanupIsExact(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			useBackend(t, backend)
			enter(t)
			shell(t, others)
			before := snapshot(t)
			plan := NewPlan(everything())
			must(t, Apply(GuardPlan(everything())))
			must(t, Apply(plan))
			once := snapshot(t)
			must(t, Apply(plan))
			if got := snapshot(t); got != once {
				t.Errorf("a second apply changed:\n%s", difflines(once, got))
			}
			must(t, Apply(NewPlan(with(func(c *Config) { c.Port4, c.DNSPort6, c.Resolvers = 1, 2, c.Resolvers[:1] }))))
			if lines, err := Drift(plan); err != nil || len(lines) == 0 {
				t.Errorf("drift from a plan replaced by another = %q, %v", lines, err)
			}
			must(t, Apply(plan))
			if got := snapshot(t); got != once {
				t.Errorf("there and back changed:\n%s", difflines(once, got))
			}
			must(t, Cleanup())
			if got := snapshot(t); got != before {
				t.Errorf("cleanup left or took something:\n%s", difflines(before, got))
			}
		})
	}
}

// useBackend puts a backend's programs first in PATH under the plain names.
func useBackend(t *testing.T, backend string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables", "iptables-save", "ip6tables-save"} {
		family, save, _ := strings.Cut(name, "-")
		program := family + "-" + backend
		if save != "" {
			program += "-" + save
		}
		path, err := exec.LookPath(program)
		must(t, err)
		must(t, os.Symlink(path, filepath.Join(dir, name)))
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// TestGuardPlan shows that no packet to the ranges leaves while only the guard is in force, not even into a VPN, and that a
// local route takes precedence over it.
func TestGuardPlan(t *testing.T) {
	enter(t)
	there := newElsewhere(t)
	there.join(t)
	shell(t, "for f in -4 -6; do ip $f rule add lookup 52 priority 5210; done;"+ // as a VPN does
		"ip route add default via 10.9.0.2 table 52; ip -6 route add default via fd00:9::2 table 52")
	must(t, Apply(GuardPlan(everything())))
	for _, addr := range []string{"240.64.0.9:5432", "[fd7a:ac17::9]:5432"} {
		if _, err := net.DialTimeout("tcp", addr, patience); !errors.Is(err, unix.EINVAL) {
			t.Errorf("dial %s = %v; want the error of a blackhole", addr, err)
		}
	}
	must(t, Apply(NewPlan(with(func(c *Config) { c.TPROXY = false }))))
	if got := shell(t, "ip route get 240.64.0.9"); !strings.Contains(got, "local 240.64.0.9 dev lo") || !strings.Contains(got, "src 127.0.0.1") {
		t.Errorf("route to a virtual address = %q", got)
	}
}

// TestRouteOfOthersIsNamed refuses to replace a route that isn't ours.
func TestRouteOfOthersIsNamed(t *testing.T) {
	enter(t)
	shell(t, "ip route add local 240.64.0.0/12 dev lo table local")
	if err := Apply(NewPlan(everything())); err == nil || !strings.Contains(err.Error(), "another program has added") {
		t.Errorf("apply = %v", err)
	}
	must(t, Cleanup())
	if got := shell(t, "ip route show table local 240.64.0.0/12"); got == "" {
		t.Error("cleanup removed a route of another program")
	}
}

func listenAll(t *testing.T) (*listen.Pair, *listen.DNSPair, *listen.DNSPair) {
	t.Helper()
	listeners, err := listen.CapturedPair(context.Background(), true, nil)
	must(t, err)
	dns4, err := listen.DNS(context.Background(), false)
	must(t, err)
	dns6, err := listen.DNS(context.Background(), true)
	must(t, err)
	t.Cleanup(func() {
		for _, c := range []interface{ Close() error }{listeners, dns4, dns6} {
			must(t, c.Close())
		}
	})
	return listeners, dns4, dns6
}

// captured connects from there to addr and expects ln to accept it under that address, and the caller to see its own target.
func captured(t *testing.T, there place, ln *net.TCPListener, addr string) {
	t.Helper()
	var client net.Conn
	err := there.do(func() (err error) { client, err = net.DialTimeout("tcp", addr, patience); return err })
	if err != nil {
		t.Errorf("dial %s: %v", addr, err)
		return
	}
	defer client.Close()
	must(t, ln.SetDeadline(time.Now().Add(patience)))
	conn, err := ln.AcceptTCP()
	if err != nil {
		t.Errorf("accept for %s: %v", addr, err)
		return
	}
	defer conn.Close()
	if got := conn.LocalAddr().String(); got != addr {
		t.Errorf("local address of the accepted connection = %s, want %s", got, addr)
	}
	if got, want := conn.RemoteAddr().String(), client.LocalAddr().String(); got != want {
		t.Errorf("remote address of the accepted connection = %s, want %s", got, want)
	}
}

// answered sends a datagram from there to addr and expects it at udp with that destination, and an answer, longer than the
// MTU, from that address: the client's socket is connected, so it accepts no other source.
func answered(t *testing.T, there place, udp *listen.TransparentUDP, addr string) {
	t.Helper()
	var client net.Conn
	must(t, there.do(func() (err error) { client, err = net.Dial("udp", addr); return err }))
	defer client.Close()
	must(t, client.SetDeadline(time.Now().Add(patience)))
	if _, err := client.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8192)
	defer time.AfterFunc(patience, func() { udp.Close() }).Stop() // ends a read of what never comes
	n, from, orig, err := udp.ReadFrom(b)
	if err != nil || string(b[:n]) != "question" || orig != netip.MustParseAddrPort(addr) || from.String() != client.LocalAddr().String() {
		t.Errorf("read %q from %s for %s, %v; want from %s for %s", b[:n], from, orig, err, client.LocalAddr(), addr)
		return
	}
	for _, size := range []int{1, 512, 4096, 0, 4001} {
		answer := strings.Repeat("a", size)
		must(t, udp.WriteFrom([]byte(answer), orig, from))
		if n, err = client.Read(b); err != nil || string(b[:n]) != answer {
			t.Errorf("answer of %d bytes from %s = %d bytes, %v", size, addr, n, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// difflines lists the lines that only one of two texts has.
func difflines(a, b string) string {
	var out strings.Builder
	for line := range strings.Lines(a) {
		if !strings.Contains(b, line) {
			fmt.Fprint(&out, "- ", line)
		}
	}
	for line := range strings.Lines(b) {
		if !strings.Contains(a, line) {
			fmt.Fprint(&out, "+ ", line)
		}
	}
	return out.String()
}

// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestDriftWatcher: every breakage is seen at the next look, and a look where nothing
// has happened doesn't start iptables.
func TestDriftWatcher(t *testing.T) {
	enter(t)
	plan := NewPlan(everything())
	must(t, Apply(plan))
	s, _ := watching(t)
	settle := func() {
		t.Helper()
		for range 3 { // what Apply did is news once
			lines, err := s.Drift(plan)
			if must(t, err); len(lines) > 0 {
				t.Fatalf("drift = %q", lines)
			}
		}
		if s.rulesDue {
			t.Error("nothing has changed, and yet the chains are looked at again")
		}
	}
	settle()
	begin := time.Now()
	const looks = 100
	for range looks {
		if _, err := s.Drift(plan); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("a look costs %s; a whole one:", time.Since(begin)/looks)
	begin = time.Now()
	if _, err := Drift(plan); err != nil {
		t.Fatal(err)
	}
	t.Log(time.Since(begin))
	for _, harm := range []string{
		"iptables -t mangle -F", "ip6tables -t mangle -F", "iptables -t mangle -D PREROUTING -j TACIT-PREROUTING",
		"ip -4 route flush table local proto 116", "ip -6 route flush table 11600", "ip -4 rule del priority 1160",
		"ip link set lo down; ip link set lo up",
	} {
		shell(t, harm)
		lines, err := s.Drift(plan)
		if err != nil || len(lines) == 0 {
			t.Errorf("after %q: drift = %q, %v", harm, lines, err)
		}
		must(t, Apply(plan))
		settle()
	}
}

// watching starts a Watch of the calling thread's namespace; it ends with the test.
func watching(t *testing.T) (*DriftWatcher, <-chan struct{}) {
	t.Helper()
	w, err := NewDriftWatcher()
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- w.Watch(ctx, changed) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, w.Close()); err != nil {
			t.Errorf("watch ended with %v", err)
		}
	})
	return w, changed
}

// quiet waits until nothing has been sent for twice the time in which Watch collects notices.
func quiet(t *testing.T, changed <-chan struct{}) {
	t.Helper()
	for end := time.After(patience); ; {
		select {
		case <-changed:
		case <-time.After(2 * quietTime):
			return
		case <-end:
			t.Fatal("Watch sends although nothing changes any more")
		}
	}
}

// TestWatch: each way to lose a route, rule or chain is sent at once, and so is a rule of others that comes before ours; what
// can't concern ours is not. Comparing changes nothing, so that Watch and Drift don't keep each other busy.
func TestWatch(t *testing.T) {
	enter(t)
	plan := NewPlan(everything())
	must(t, Apply(plan))
	shell(t, "ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up; ip addr add 10.7.0.1/24 dev d0")
	w, changed := watching(t)
	if !w.NoticesChains() {
		t.Error("no notices of chains, with iptables-nft")
	}
	quiet(t, changed)
	for _, harm := range []string{
		"nft flush ruleset", "iptables -t mangle -F", "ip6tables -t raw -F PREROUTING", "iptables -t mangle -D PREROUTING -j TACIT-PREROUTING",
		"iptables -t raw -I PREROUTING -s 198.51.100.7 -j ACCEPT",
		"ip -4 route flush table local proto 116", "ip -6 route flush table local proto 116", "ip route flush table 11600",
		"ip rule del priority 1160", "ip -6 rule del priority 1160", "ip rule add priority 10 lookup 77",
		"ip link set lo down; ip link set lo up",
	} {
		began := time.Now()
		shell(t, harm)
		command := time.Since(began)
		expect(t, changed, "after "+harm)
		t.Logf("%-80s sent %s after the command began, which took %s", harm, time.Since(began), command)
		must(t, Apply(plan))
		quiet(t, changed)
	}
	const theirs = "240.64.0.0/12 dev lo table local proto static src 127.0.0.1"
	shell(t, "ip route replace local "+theirs)
	expect(t, changed, "after ours was replaced")
	shell(t, "ip route del local "+theirs)
	must(t, Apply(plan))
	quiet(t, changed)
	for what, harmless := range map[string]func(){
		"a route elsewhere": func() { shell(t, "ip route add blackhole 198.51.100.0/24; ip route del blackhole 198.51.100.0/24") },
		"a table of others": func() {
			shell(t, "nft add table inet theirs; nft add chain inet theirs c; nft add rule inet theirs c counter; nft delete table inet theirs")
		},
		"comparing with Drift":   func() { _, err := Drift(plan); must(t, err) },
		"comparing with w.Drift": func() { _, err := w.Drift(plan); must(t, err) },
	} {
		harmless()
		select {
		case <-changed:
			t.Errorf("%s was sent as a change", what)
		case <-time.After(2 * quietTime):
		}
	}
}

// TestWatchOfLegacy: the legacy backend gives no notices, and that is said; Drift sees the loss at once.
func TestWatchOfLegacy(t *testing.T) {
	useBackend(t, "legacy")
	enter(t)
	plan := NewPlan(everything())
	must(t, Apply(plan))
	w, _ := watching(t)
	if w.NoticesChains() {
		t.Error("notices of chains, with iptables-legacy")
	}
	within(t, "the first comparison", func() bool { lines, err := w.Drift(plan); return err == nil && len(lines) == 0 && !w.rulesDue })
	shell(t, "iptables -t mangle -F")
	began := time.Now()
	if lines, err := w.Drift(plan); err != nil || len(lines) == 0 {
		t.Errorf("after a flush: drift = %q, %v", lines, err)
	}
	t.Logf("found in %s", time.Since(began))
}

// TestRestoreRoutes adds routes and rules, and says whether any was missing.
func TestRestoreRoutes(t *testing.T) {
	enter(t)
	plan := NewPlan(Config{Range4: netip.MustParsePrefix("240.64.0.0/12"), Range6: netip.MustParsePrefix("fd7a:ac17::/32"), IPv6: true, TPROXY: true})
	restore := func(when string, want bool) {
		t.Helper()
		missing, err := RestoreRoutes(plan)
		must(t, err)
		if missing != want {
			t.Errorf("%s: missing: %v, want %v", when, missing, want)
		}
	}
	restore("at first", true)
	for _, line := range []string{
		"ip route flush table local proto 116", "ip -6 route flush table local proto 116", "ip route flush table 11600",
		"ip rule del priority 1160", "ip -6 rule del priority 1160",
	} {
		shell(t, line)
		restore("after "+line, true)
	}
	shell(t, "ip route add blackhole 198.51.100.0/24; ip route del blackhole 198.51.100.0/24")
	restore("after a change to a route of others", false)
}

// TestShadows: routes of others inside a range, and which of them matter.
func TestShadows(t *testing.T) {
	enter(t)
	must(t, Apply(NewPlan(everything())))
	shell(t, "ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up; ip addr add 10.7.0.1/24 dev d0; ip -6 addr add fd00:7::1/64 dev d0 nodad")
	s, err := NewDriftWatcher()
	must(t, err)
	defer s.Close()
	for _, tt := range []struct{ command, want string }{
		{"true", ""},
		{"ip route add 240.64.0.2/32 dev d0", "240.64.0.2/32 dev d0 table 254 false"},
		{"ip route replace table local 240.64.0.2/32 dev d0", "240.64.0.2/32 dev d0 table 254 true; 240.64.0.2/32 dev d0 table local true"},
		{"ip route del table local 240.64.0.2/32; ip route del 240.64.0.2/32", ""},
		{"ip -6 route add table local fd7a:ac17::2/128 dev d0 metric 1", "fd7a:ac17::2/128 dev d0 table local true"},
		{"ip -6 route del table local fd7a:ac17::2/128", ""},
		{"ip rule add priority 10 lookup 77; ip rule add priority 20 lookup local; ip rule del priority 0; ip route add 240.64.0.0/24 dev d0 table 77",
			"240.64.0.0/24 dev d0 table 77 true"},
	} {
		shell(t, tt.command)
		if _, err := s.Drift(NewPlan(everything())); err != nil { // listens
			t.Fatal(err)
		}
		found, err := s.Shadows(everything())
		must(t, err)
		var got []string
		for _, f := range found {
			got = append(got, fmt.Sprint(f.Route, " ", f.Taken))
		}
		if strings.Join(got, "; ") != tt.want {
			t.Errorf("after %q: %q, want %q", tt.command, got, tt.want)
		}
	}
}

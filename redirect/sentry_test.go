// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSentry: every breakage is seen at the next look, and a look where nothing
// has happened doesn't start iptables.
func TestSentry(t *testing.T) {
	enter(t)
	plan := NewPlan(everything())
	must(t, Apply(plan))
	s, err := NewSentry()
	must(t, err)
	defer s.Close()
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

// TestShadows: routes of others inside a range, and which of them matter.
func TestShadows(t *testing.T) {
	enter(t)
	must(t, Apply(NewPlan(everything())))
	shell(t, "ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up; ip addr add 10.7.0.1/24 dev d0; ip -6 addr add fd00:7::1/64 dev d0 nodad")
	s, err := NewSentry()
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

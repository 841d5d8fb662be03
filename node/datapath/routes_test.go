// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
	"tacit/node/health"
	"tacit/redirect"
)

// TestRoutesAreSetAgain while the datapath runs: each loss is repaired and reported.
func TestRoutesAreSetAgain(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t).open(t)
	f.run(t)
	rule := strings.Fields(shell(t, "ip rule | grep -m1 fwmark"))
	for i, c := range []struct{ name, remove string }{
		{"the route of a virtual range", "ip route del local 240.64.0.0/10 table local"},
		{"the IPv6 one", "ip -6 route del local fd7a:ac17::/64 table local"},
		{"the blackhole", "ip route del blackhole 240.64.0.0/10 table local"},
		{"the rule for TPROXY", "ip rule del priority " + strings.TrimSuffix(rule[0], ":")},
		{"a chain's rules", "iptables -t mangle -F PREROUTING"},
		{"all chains", "iptables -t mangle -F; iptables -t mangle -X"},
		{"all IPv6 chains", "ip6tables -t mangle -F; ip6tables -t mangle -X"},
	} {
		shell(t, c.remove)
		testhost.Eventually(t, waitFor, c.name, func() error {
			if left, err := redirect.Drift(f.Plan()); err != nil || len(left) > 0 {
				return fmt.Errorf("drift %q: %w", left, err)
			}
			for _, r := range f.board.Repairs(time.Time{}) {
				if r.Object == string(health.Routes) && r.Count > i {
					return nil
				}
			}
			return fmt.Errorf("reported: %s", repaired(f.board))
		})
	}
	testhost.Eventually(t, waitFor, "no problem is left", func() error { // what the shell started was in the daemon's cgroup, too
		if text := wrong(f.board); text != "" {
			return errors.New(text)
		}
		return nil
	})
}

// TestRepairRoutes: what can't be set again is a problem, until it can.
func TestRepairRoutes(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t).open(t)
	f.repairRoutes()
	differs(t, "nothing is missing", repaired(f.board)+wrong(f.board), "")
	shell(t, "ip route del local 240.64.0.0/10 table local; ip route del blackhole 240.64.0.0/10 table local")
	t.Setenv("PATH", "") // no ip6tables either
	plan := f.Plan()
	f.repairRoutes()
	if got := repaired(f.board); !strings.HasPrefix(got, "routes and rules: missing: ") || !strings.HasSuffix(got, "and 1 more") && !strings.Contains(got, " more") {
		t.Errorf("repairs %q", got)
	}
	if plan.String() == f.Plan().String() {
		t.Error("without iptables the plan still has chains")
	}
	differs(t, "problems", wrong(f.board), "")
}

func TestAndMore(t *testing.T) {
	for n, want := range map[int]string{0: "", 1: " and 1 more", 7: " and 7 more"} {
		differs(t, fmt.Sprint(n), andMore(n), want)
	}
}

// TestRoutesOfOthers in the virtual range: one in the main table comes after
// ours, one in the local table takes connections away.
func TestRoutesOfOthers(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t).open(t)
	look := func() (string, error) {
		if _, err := f.Drift(); err != nil { // finds that routes have changed
			return "", err
		}
		found, err := f.Shadows()
		var out []string
		for _, s := range found {
			out = append(out, fmt.Sprintf("%s %v", s.Route, s.Taken))
		}
		return strings.Join(out, "\n"), err
	}
	for _, c := range []struct{ add, shadows, problem string }{
		{"true", "", ""},
		{"ip route add 240.65.0.0/16 dev eth0", "240.65.0.0/16 dev eth0 table 254 false", ""},
		{"ip route del 240.65.0.0/16 dev eth0; ip route add 240.65.0.0/16 dev eth0 table local", "240.65.0.0/16 dev eth0 table local true",
			"240.65.0.0/16 dev eth0 table local takes captured connections away: remove it (ip route del)"},
	} {
		shell(t, c.add)
		testhost.Eventually(t, waitFor, c.add, func() error {
			if got, err := look(); err != nil || got != c.shadows {
				return fmt.Errorf("%q, %w", got, err)
			}
			got := ""
			if err := f.shadowed(); err != nil {
				got = err.Error()
			}
			if got != c.problem {
				return errors.New(got)
			}
			return nil
		})
	}
}

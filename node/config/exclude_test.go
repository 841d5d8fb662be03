// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"strings"
	"testing"
)

// TestExcludeSettles: an error names the list and where it was given.
func TestExcludeSettles(t *testing.T) {
	range4, range6 := netip.MustParsePrefix("240.64.0.0/12"), netip.MustParsePrefix("fd7a:ac17::/32")
	at := map[string]string{"cidrs": "a.hcl:3: exclude.cidrs", "cgroups": "--exclude-cgroup"}
	for want, e := range map[string]Exclude{
		"exclude.ports: port 0":                                                    {Ports: []uint16{22, 0}},
		"exclude.uids: user 4294967295: not a valid user":                          {UIDs: []uint32{1<<32 - 1}},
		"a.hcl:3: exclude.cidrs: 0.0.0.0/0 overlaps the virtual addresses 240.64.": {CIDRs: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, At: at},
		"a.hcl:3: exclude.cidrs: fd7a:ac17:1::/48 overlaps":                        {CIDRs: []netip.Prefix{netip.MustParsePrefix("fd7a:ac17:1::/48")}, At: at},
		`--exclude-cgroup: cgroup "/top2/a": is not below /top`:                    {Cgroups: []string{"/top2/a"}, At: at},
		`--exclude-cgroup: cgroup "a/../..": is not below /top`:                    {Cgroups: []string{"a/../.."}, At: at},
		`--exclude-cgroup: cgroup "/top/": is the hooked root`:                     {Cgroups: []string{"/top/"}, At: at},
		`--exclude-cgroup: cgroup "tacit/services": /top/tacit is tacit's own`:     {Cgroups: []string{"tacit/services"}, At: at},
	} {
		if _, err := e.settle("/top", range4, range6); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	got, err := Exclude{Cgroups: []string{"a/b/", "/top/c", "../top/d"}, CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}.settle("/top", range4, range6)
	if err != nil || strings.Join(got.Cgroups, " ") != "/top/a/b /top/c /top/d" {
		t.Errorf("%v, %v", got.Cgroups, err)
	}
	if got, err := (Exclude{Cgroups: []string{"/a"}}).settle("/", range4); err != nil || got.Cgroups[0] != "/a" {
		t.Errorf("below /: %v, %v", got.Cgroups, err)
	}
}

func TestExcludeCovers(t *testing.T) {
	e := Exclude{Ports: []uint16{22}, CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}
	for to, want := range map[string]bool{
		"192.0.2.1:22": true, "192.0.2.1:23": false, "10.1.2.3:80": true, "[::ffff:10.1.2.3]:80": true, "[fd00::1]:80": true, "[2001:db8::1]:80": false,
	} {
		if got := e.Covers(netip.MustParseAddrPort(to)); got != want {
			t.Errorf("%s: %v", to, got)
		}
	}
}

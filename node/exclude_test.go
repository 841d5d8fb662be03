// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tacit/node/definition"
	"tacit/node/workload"
)

// TestExcludeSettles: what can't be meant names the list and where it stands.
func TestExcludeSettles(t *testing.T) {
	range4, range6 := netip.MustParsePrefix("240.64.0.0/12"), netip.MustParsePrefix("fd7a:ac17::/32")
	at := map[string]string{"cidrs": "a.hcl:3: exclude.cidrs", "cgroups": "--exclude-cgroup"}
	for want, e := range map[string]Exclude{
		"exclude.ports: port 0":                                                    {Ports: []uint16{22, 0}},
		"exclude.uids: user 4294967295: is no user":                                {UIDs: []uint32{1<<32 - 1}},
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
		if got := e.covers(netip.MustParseAddrPort(to)); got != want {
			t.Errorf("%s: %v", to, got)
		}
	}
}

// TestExclusions: what is a service's stays out of the exclusions, and status
// names both places.
func TestExclusions(t *testing.T) {
	root := t.TempDir()
	cgroup := func(name string, pids ...int) (string, uint64) {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strings.Trim(fmt.Sprint(pids), "[]")), 0o600); err != nil {
			t.Fatal(err)
		}
		id, err := workload.ID(dir)
		if err != nil {
			t.Fatal(err)
		}
		return dir, id
	}
	slice, sliceID := cgroup("system.slice")
	unit, _ := cgroup("system.slice/db.service", os.Getpid())
	inner, _ := cgroup("system.slice/db.service/inner")
	sshd, sshdID := cgroup("system.slice/sshd.service")
	me, owner, free := uint32(os.Getuid()), uint32(70001), uint32(70002)
	n := &Node{cfg: &settled{Config: Config{Exclude: Exclude{
		Ports: []uint16{22, 5432, 12000}, CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, UIDs: []uint32{me, owner, free},
		Cgroups: []string{slice, unit, inner, sshd, filepath.Join(root, "gone")},
		At:      map[string]string{"ports": "tacitd.hcl:12: exclude.ports"},
	}}}}
	local := &localView{services: []localService{
		{Definition: definition.Definition{Name: "db", ID: "db", Port: 5432, Source: "db.hcl:2"}, cgroups: []string{unit}},
		{Definition: definition.Definition{Name: "web", ID: "web", Source: "command", Workload: definition.Workload{UID: &owner},
			Upstreams: []definition.Upstream{{Destination: "db", Bind: netip.MustParseAddrPort("127.0.0.1:12000")}}}},
	}}
	got := n.exclusions(local)
	if !slices.Equal(got.ports, []uint16{22}) || !slices.Equal(got.uids, []uint32{me, free}) ||
		!slices.Equal(got.cgroups, []uint64{sliceID, sshdID}) || len(got.cidrs) != 1 {
		t.Errorf("got %+v", got)
	}
	found := map[string]string{}
	n.problems.each(func(what string, err error) { found[what] = err.Error() })
	for what, parts := range map[string][]string{
		"exclude port 5432":               {"db.hcl:2", "tacitd.hcl:12: exclude.ports", "not excluded"},
		"exclude port 12000":              {"web (command) reaches db", "tacitd.hcl:12"},
		fmt.Sprintf("exclude uid %d", me): {"programs of db (db.hcl:2)", "stay judged"},
		"exclude uid 70001":               {"is the workload of web (command)"},
		"exclude cgroup " + slice:         {"has the workload of db (db.hcl:2)", "stays judged"},
		"exclude cgroup " + unit:          {"is in the workload of db (db.hcl:2)"},
		"exclude cgroup " + inner:         {"is in the workload of db (db.hcl:2)"},
	} {
		for _, part := range parts {
			if !strings.Contains(found[what], part) {
				t.Errorf("%s: %q doesn't say %q", what, found[what], part)
			}
		}
		delete(found, what)
	}
	if len(found) > 0 {
		t.Errorf("too much: %v", found)
	}
	n.exclusions(&localView{})
	n.problems.each(func(what string, _ error) { t.Errorf("%s stays", what) })
}

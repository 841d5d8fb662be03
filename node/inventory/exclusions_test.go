// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tacit/node/config"
	"tacit/node/definition"
	"tacit/node/workload"
)

// TestExclusions: what is a service's stays out of the exclusions, and the
// problem names both places.
func TestExclusions(t *testing.T) {
	const me, owner, free = 1000, 70001, 70002
	uid := uint32(owner)
	x := config.Exclude{
		Ports: []uint16{22, 5432, 12000}, CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, UIDs: []uint32{me, owner, free},
		Cgroups: []string{"/top/system.slice", "/top/system.slice/db.service", "/top/system.slice/db.service/inner", "/top/system.slice/sshd.service", "/top/gone"},
		At:      map[string]string{"ports": "tacitd.hcl:12: exclude.ports"},
	}
	v := &View{
		Excluded: map[string]uint64{"/top/system.slice": 1, "/top/system.slice/db.service": 2, "/top/system.slice/db.service/inner": 3, "/top/system.slice/sshd.service": 4},
		Services: []Service{
			{Definition: definition.Definition{Name: "db", ID: "db", Port: 5432, Source: "db.hcl:2"}, Users: []uint32{0, me},
				Cgroups: []workload.Cgroup{{Path: "/top/system.slice/db.service", ID: 2}}},
			{Definition: definition.Definition{Name: "web", ID: "web", Source: SourceCommand, Workload: definition.Workload{UID: &uid},
				Upstreams: []definition.Upstream{{Destination: "db", Bind: netip.MustParseAddrPort("127.0.0.1:12000")}}}},
		},
	}
	got, problems := v.Exclusions(x)
	if !slices.Equal(got.Ports, []uint16{22}) || !slices.Equal(got.Users, []uint32{me, free}) ||
		!slices.Equal(got.Cgroups, []uint64{1, 4}) || len(got.Nets) != 1 {
		t.Errorf("got %+v", got)
	}
	for what, parts := range map[string][]string{
		"port 5432":                           {"db.hcl:2", "tacitd.hcl:12: exclude.ports", "not excluded"},
		"port 12000":                          {"web (command) reaches db", "tacitd.hcl:12"},
		"uid 1000":                            {"programs of db (db.hcl:2)", "stay judged"},
		"uid 70001":                           {"is the workload of web (command)"},
		"cgroup /top/system.slice":            {"has the workload of db (db.hcl:2)", "stays judged"},
		"cgroup /top/system.slice/db.service": {"is in the workload of db (db.hcl:2)"},
		"cgroup /top/system.slice/db.service/inner": {"is in the workload of db (db.hcl:2)"},
	} {
		for _, part := range parts {
			if err := problems[what]; err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v doesn't say %q", what, err, part)
			}
		}
		delete(problems, what)
	}
	if len(problems) > 0 {
		t.Errorf("too much: %v", problems)
	}
	alone := &View{Excluded: v.Excluded}
	got, problems = alone.Exclusions(x)
	if len(problems) > 0 || !slices.Equal(got.Ports, x.Ports) || !slices.Equal(got.Users, x.UIDs) ||
		!slices.Equal(slices.Sorted(slices.Values(got.Cgroups)), slices.Sorted(maps.Values(v.Excluded))) {
		t.Errorf("without services: %+v, %v", got, problems)
	}
}

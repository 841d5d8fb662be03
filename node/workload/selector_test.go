// SPDX-License-Identifier: Apache-2.0

package workload_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/node/workload"
)

const (
	// full container IDs; podman names a monitor's cgroup after the container as well
	dockerID = "0d4c1e2f3a4b5c6d7e8f90112233445566778899aabbccddeeff001122334455"
	oldID    = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809"
	podmanID = "e5f6a7b8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80910"
	podID    = "f00dfeed0123456789abcdef0123456789abcdef0123456789abcdef01234567"
	runID    = "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ff"
	stolenID = "beefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeef"
)

func podScope() string {
	return "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-" + podID + ".scope"
}

// hostTree is what systemd and container engines make on a host.
func hostTree(t *testing.T, root string) {
	t.Helper()
	for _, dir := range []string{
		"app/inner",
		"tacit/daemon",
		"tacit/services/job/docker-" + runID + ".scope", // made by a program that `tacit run` started
		"system.slice/db.service",
		"system.slice/web.service/inner",
		"system.slice/system-pg.slice/pg@main.service",
		"system.slice/docker-" + dockerID + ".scope/inner",
		"docker/" + oldID,
		"machine.slice/libpod-conmon-" + podmanID + ".scope",
		"machine.slice/libpod-" + podmanID + ".scope/container",
		podScope(),
		"user.slice/user-1000.slice/user@1000.service/app.slice/payroll.service", // made by that user's own manager
		"system.slice/app.service/api.service",                                   // made by a program inside a unit
	} {
		mkdir(t, root, dir)
	}
	theirs := mkdir(t, root, "user.slice/user-1001.slice/user@1001.service")
	mkdir(t, theirs, "docker-"+stolenID+".scope")
	for _, path := range []string{theirs, filepath.Join(theirs, "docker-"+stolenID+".scope")} {
		if err := os.Chown(path, 1001, 1001); err != nil { // delegation, as systemd does it
			t.Fatal(err)
		}
	}
}

// paths are those of the cgroups that a scan finds for a selector.
func paths(s *workload.Scan, service identity.Name, sel workload.Selector) []string {
	var out []string
	for _, c := range s.Cgroups(service, sel) {
		out = append(out, c.Path)
	}
	return out
}

func TestCgroups(t *testing.T) {
	tree, root := newRoot(t)
	hostTree(t, root)
	scan := tree.Scan(true)
	type sel = workload.Selector
	for name, c := range map[string]struct {
		service identity.Name
		sel     workload.Selector
		want    string // below root, "" for none
	}{
		"cgroup, relative":              {"x", sel{Cgroup: "app"}, "app"},
		"cgroup, below":                 {"x", sel{Cgroup: "app/inner/"}, "app/inner"},
		"cgroup, leading slash":         {"x", sel{Cgroup: "/app"}, "app"},
		"cgroup, absolute":              {"x", sel{Cgroup: root + "/app"}, "app"},
		"cgroup, absolute, unclean":     {"x", sel{Cgroup: root + "//app/../app/inner"}, "app/inner"},
		"cgroup, outside by dots":       {"x", sel{Cgroup: "../../../../proc"}, ""},
		"cgroup, inside after dots":     {"x", sel{Cgroup: "../app"}, "app"},
		"cgroup, outside":               {"x", sel{Cgroup: filepath.Dir(root)}, ""},
		"cgroup, a neighbour's prefix":  {"x", sel{Cgroup: root + "2/app"}, ""},
		"cgroup, a file":                {"x", sel{Cgroup: "app/cgroup.procs"}, ""},
		"cgroup, missing":               {"x", sel{Cgroup: "none"}, ""},
		"cgroup, the whole tree":        {"x", sel{Cgroup: "/"}, ""},
		"cgroup, the whole tree, too":   {"x", sel{Cgroup: root}, ""},
		"cgroup, the daemon's own":      {"x", sel{Cgroup: "tacit/daemon"}, ""},
		"unit":                          {"x", sel{SystemdUnit: "db.service"}, "system.slice/db.service"},
		"unit, no suffix":               {"x", sel{SystemdUnit: "db"}, "system.slice/db.service"},
		"unit, in a slice's slice":      {"x", sel{SystemdUnit: "pg@main"}, "system.slice/system-pg.slice/pg@main.service"},
		"unit, a slice":                 {"x", sel{SystemdUnit: "system-pg.slice"}, "system.slice/system-pg.slice"},
		"unit, missing":                 {"x", sel{SystemdUnit: "d"}, ""},
		"unit, of a user's manager":     {"x", sel{SystemdUnit: "payroll"}, ""},
		"unit, made inside a unit":      {"x", sel{SystemdUnit: "api"}, ""},
		"no selector":                   {"web", sel{}, "system.slice/web.service"},
		"no selector, user's manager":   {"payroll", sel{}, ""},
		"no selector, no unit":          {"none", sel{}, ""},
		"docker, systemd driver":        {"x", sel{Container: dockerID}, "system.slice/docker-" + dockerID + ".scope"},
		"docker, 12 digits":             {"x", sel{Container: dockerID[:12]}, "system.slice/docker-" + dockerID + ".scope"},
		"docker, 11 digits":             {"x", sel{Container: dockerID[:11]}, ""},
		"docker, cgroupfs driver":       {"x", sel{Container: oldID[:12]}, "docker/" + oldID},
		"podman, not its monitor":       {"x", sel{Container: podmanID}, "machine.slice/libpod-" + podmanID + ".scope"},
		"containerd":                    {"x", sel{Container: podID}, podScope()},
		"container, another ID":         {"x", sel{Container: strings.Repeat("0", 64)}, ""},
		"container, a longer ID":        {"x", sel{Container: dockerID + "0"}, ""},
		"container, made by a workload": {"x", sel{Container: runID}, ""},
		"container, made by a user":     {"x", sel{Container: stolenID}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			if c.want != "" {
				want = []string{filepath.Join(root, c.want)}
			}
			if got := paths(scan, c.service, c.sel); !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

// TestCgroupsOfRun: what `tacit run` made counts beside every selector.
func TestCgroupsOfRun(t *testing.T) {
	tree, root := newRoot(t)
	hostTree(t, root)
	if _, err := tree.ServiceCgroup("web"); err != nil {
		t.Fatal(err)
	}
	scan := tree.Scan(false)
	run, unit := tree.ServicePath("web"), filepath.Join(root, "system.slice/web.service")
	for _, c := range []struct {
		sel  workload.Selector
		want []string
	}{
		{workload.Selector{}, []string{run, unit}},
		{workload.Selector{SystemdUnit: "db"}, []string{run, filepath.Join(root, "system.slice/db.service")}},
		{workload.Selector{Cgroup: "app"}, []string{run, filepath.Join(root, "app")}},
		{workload.Selector{Cgroup: "none"}, []string{run}},
		{workload.Selector{Cgroup: "tacit/services/web"}, []string{run}},
	} {
		if got := paths(scan, "web", c.sel); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.sel, got, c.want)
		}
	}
	if got := paths(scan, "other", workload.Selector{Cgroup: "tacit/services/web"}); got != nil {
		t.Errorf("another service claims web's: %v", got)
	}
}

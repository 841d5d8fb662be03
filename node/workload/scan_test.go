// SPDX-License-Identifier: Apache-2.0

package workload_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tacit/node/workload"
)

// TestScanDepth: six levels are searched, and slices alone where no service is
// a container.
func TestScanDepth(t *testing.T) {
	tree, root := newRoot(t)
	levels := func(n int) string { return strings.Repeat("s.slice/", n-1) }
	mkdir(t, root, levels(7), "deep.service")
	mkdir(t, root, levels(6), "sixth.service")
	mkdir(t, root, "docker", dockerID)
	for name, c := range map[string]struct {
		containers bool
		sel        workload.Selector
		want       string
	}{
		"the sixth level":             {false, workload.Selector{SystemdUnit: "sixth"}, levels(6) + "sixth.service"},
		"the seventh":                 {false, workload.Selector{SystemdUnit: "deep"}, ""},
		"the seventh, by path":        {false, workload.Selector{Cgroup: levels(7) + "deep.service"}, levels(7) + "deep.service"},
		"a container":                 {true, workload.Selector{Container: dockerID}, "docker/" + dockerID},
		"a container, slices alone":   {false, workload.Selector{Container: dockerID}, ""},
		"a unit, not in slices alone": {true, workload.Selector{SystemdUnit: "sixth"}, levels(6) + "sixth.service"},
	} {
		var want []string
		if c.want != "" {
			want = []string{filepath.Join(root, c.want)}
		}
		if got := paths(tree.Scan(c.containers), "x", c.sel); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// TestScanOrder: of two units by one name the first in path order counts, as
// long as it is there. One that is made again is another.
func TestScanOrder(t *testing.T) {
	tree, root := newRoot(t)
	sel := workload.Selector{SystemdUnit: "db"}
	second := mkdir(t, root, "b.slice", "db.service")
	first := mkdir(t, root, "a.slice", "z.slice", "db.service")
	before := tree.Scan(false).Cgroups("x", sel)
	if len(before) != 1 || before[0].Path != first {
		t.Errorf("%v, want %s", before, first)
	}
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	if got := paths(tree.Scan(false), "x", sel); !slices.Equal(got, []string{second}) {
		t.Errorf("%v, want %s", got, second)
	}
	mkdir(t, first)
	after := tree.Scan(false).Cgroups("x", sel)
	if len(after) != 1 || after[0].Path != first || after[0].ID == before[0].ID {
		t.Errorf("made again: %v, was %v", after, before)
	}
}

// TestParents: each directory in which a workload could come into being.
func TestParents(t *testing.T) {
	tree, root := newRoot(t)
	hostTree(t, root)
	mkdir(t, root, "tacit", "services")
	find := func(containers bool) (out []string) {
		for _, c := range tree.Scan(containers).Parents() {
			if id, err := workload.ID(c.Path); err != nil || id != c.ID {
				t.Errorf("%+v: %d, %v", c, id, err)
			}
			out = append(out, strings.TrimPrefix(c.Path, root))
		}
		return out
	}
	units, containers := find(false), find(true)
	for path, want := range map[string]struct{ unit, container bool }{
		"":                              {true, true},
		"/system.slice":                 {true, true},
		"/system.slice/system-pg.slice": {true, true},
		"/tacit":                        {true, true},
		"/tacit/services":               {true, true},
		"/docker":                       {false, true},
		"/system.slice/web.service":     {false, true},
		"/tacit/services/job":           {false, false},
		"/user.slice/user-1001.slice/user@1001.service": {false, false}, // delegated
	} {
		if slices.Contains(units, path) != want.unit || slices.Contains(containers, path) != want.container {
			t.Errorf("%q: unit %t, container %t; want %+v", path, !want.unit, !want.container, want)
		}
	}
	for cgroup, want := range map[string]string{"app/inner": "/app", "/none/at/all": "", "app": "", root + "/app/inner/x": "/app/inner"} {
		if got, ok := tree.Scan(false).Parent(cgroup); !ok || got.Path != root+want {
			t.Errorf("above %s: %v, want %s", cgroup, got, root+want)
		}
	}
	if got, ok := tree.Scan(false).Parent("/"); ok {
		t.Errorf("above the root: %v", got)
	}
}

// TestWithinNow: a cgroup counts as long as it exists, whatever is made in its
// place.
func TestWithinNow(t *testing.T) {
	_, root := newRoot(t)
	unit, inner := mkdir(t, root, "db.service"), mkdir(t, root, "db.service", "a", "b")
	id, err := workload.ID(inner)
	if err != nil || !workload.Within(unit, id) {
		t.Fatalf("%s isn't in %s: %v", inner, unit, err)
	}
	if err := os.Remove(inner); err != nil {
		t.Fatal(err)
	}
	mkdir(t, inner)
	if workload.Within(unit, id) {
		t.Error("a cgroup that was removed counts")
	}
}

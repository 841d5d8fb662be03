// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"os"
	"path/filepath"
	"strings"

	"tacit/identity"
)

// Selector names the processes that are an instance of a service. At most one
// field is set; none means the cgroup of `tacit run NAME` and the unit NAME.service.
type Selector struct {
	Cgroup      string // a path below the hooked root, or an absolute one inside it
	SystemdUnit string // postgresql.service
	Container   string // a container ID, or its first 12 digits at least
}

// Paths returns the cgroups that exist now for the selector. `tacit run NAME`
// counts always, so that a service can be started by hand beside its unit.
func (t Tree) Paths(name identity.Name, s Selector) []string {
	var out []string
	add := func(path string, ok bool) {
		if ok {
			out = append(out, path)
		}
	}
	add(t.service(name), isDir(t.service(name)))
	switch {
	case s.Cgroup != "":
		path := t.absolute(s.Cgroup)
		add(path, isDir(path))
	case s.SystemdUnit != "":
		add(t.unit(s.SystemdUnit))
	case s.Container != "":
		add(t.container(s.Container))
	default:
		add(t.unit(string(name) + ".service"))
	}
	return out
}

// absolute folds a path of either form into one below the root; a path that
// points elsewhere ends below the root too, where it doesn't exist.
func (t Tree) absolute(path string) string {
	if rel, ok := strings.CutPrefix(filepath.Clean(path), t.root+"/"); ok {
		path = rel
	}
	return filepath.Join(t.root, filepath.Clean("/"+path))
}

func (t Tree) unit(unit string) (string, bool) {
	if !strings.Contains(unit, ".") {
		unit += ".service"
	}
	return find(t.root, func(base string) bool { return base == unit })
}

// container matches docker-<id>.scope, libpod-<id>.scope, cri-containerd-<id>.scope and docker/<id>.
func (t Tree) container(id string) (string, bool) {
	return find(t.root, func(base string) bool {
		base = strings.TrimSuffix(base, ".scope")
		if i := strings.LastIndex(base, "-"); i >= 0 {
			base = base[i+1:]
		}
		return len(id) >= 12 && strings.HasPrefix(base, id)
	})
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"tacit/identity"
)

// Selector names the processes that are an instance of a service. At most one
// field is set; none means the cgroup of `tacit run NAME` and the unit NAME.service.
type Selector struct {
	Cgroup      string // a path below the hooked root, or an absolute one inside it; never the root, nor what is tacit's own
	SystemdUnit string // postgresql.service, of the system's manager, not of a user's
	Container   string // a container ID, or its first 12 digits at least; of the host's engine, not of a rootless one
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
		add(path, isDir(path) && path != t.root && !inside(t.own(), path))
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

// unit looks through slices only: what lies in a unit was made by that unit's
// programs (a user's manager is one), who may call it what they like.
func (t Tree) unit(unit string) (string, bool) {
	if !strings.Contains(unit, ".") {
		unit += ".service"
	}
	return find(t.root, func(path string) verdict {
		switch {
		case filepath.Base(path) == unit:
			return take
		case filepath.Ext(path) == ".slice":
			return descend
		}
		return pass
	})
}

// container matches docker-<id>.scope, libpod-<id>.scope, cri-containerd-<id>.scope
// and docker/<id>. It passes by what is delegated to a user: names in there
// are that user's choice.
func (t Tree) container(id string) (string, bool) {
	host := owner(t.root)
	return find(t.root, func(path string) verdict {
		switch {
		case owner(path) != host, path == t.own():
			return pass
		case len(id) >= shortID && strings.HasPrefix(containerID(path), id):
			return take
		}
		return descend
	})
}

const shortID = 12 // digits of a container ID that engines print

// containerID is the ID in a cgroup's name, or nothing to compare with. An
// engine's monitor, as in libpod-conmon-<id>.scope, is not the container.
func containerID(path string) string {
	base := strings.TrimSuffix(filepath.Base(path), ".scope")
	i := strings.LastIndex(base, "-")
	if strings.HasSuffix(base[:i+1], "conmon-") {
		return ""
	}
	return base[i+1:]
}

// owner is the directory's uid. One that can't be read is nobody's.
func owner(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return -1
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return -1
	}
	return int64(sys.Uid)
}

// inside says whether path is dir or lies below it; both are clean.
func inside(dir, path string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

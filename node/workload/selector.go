// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"path/filepath"
	"strings"
)

// Selector names the processes that are an instance of a service. At most one
// field is set; none means the cgroup of `tacit run NAME` and the unit NAME.service.
type Selector struct {
	Cgroup      string // a path below the hooked root, relative to it or absolute; not the root itself and not tacit's own cgroups
	SystemdUnit string // postgresql.service: a unit of the system's service manager, not of a user's
	Container   string // a container ID, or at least its first 12 digits; of the host's engine, not of a rootless one
}

// absolute returns a Selector.Cgroup as an absolute path. The result is below
// the root even for a path that points elsewhere, and then doesn't exist.
func (t Tree) absolute(path string) string {
	if rel, ok := strings.CutPrefix(filepath.Clean(path), t.root+"/"); ok {
		path = rel
	}
	return filepath.Join(t.root, filepath.Clean("/"+path))
}

const shortID = 12 // digits of a container ID that engines print

// containerID is the ID in a cgroup's name, or something that is no ID; "" for
// an engine's monitor, as in libpod-conmon-<id>.scope.
func containerID(path string) string {
	base := strings.TrimSuffix(filepath.Base(path), ".scope")
	i := strings.LastIndex(base, "-")
	if strings.HasSuffix(base[:i+1], "conmon-") {
		return ""
	}
	return base[i+1:]
}

// inside reports whether path is dir or lies below it; both are clean.
func inside(dir, path string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

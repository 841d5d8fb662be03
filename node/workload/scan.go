// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tacit/identity"
)

// Cgroup is a directory of the cgroup tree. The kernel gives no two cgroups
// the same id until the next boot, so a cgroup that was removed and made again
// under the same path differs.
type Cgroup struct {
	Path string
	ID   uint64
}

// maxDepth is how many levels below the hooked root are searched for units and
// containers.
const maxDepth = 6

// Scan is what one walk of the tree found of units, containers and what
// `tacit run` has made. Immutable. Where two cgroups match a selector, the
// first in path order counts.
type Scan struct {
	tree Tree

	runs       map[string]Cgroup // of `tacit run`, by service
	units      map[string]Cgroup
	containers map[string][]Cgroup // by the first shortID characters of the ID
	parents    []Cgroup
}

// Scan walks the tree. Containers can lie outside slices, where the walk goes
// only when containers is set.
func (t Tree) Scan(containers bool) *Scan {
	s := &Scan{tree: t, runs: map[string]Cgroup{}, units: map[string]Cgroup{}, containers: map[string][]Cgroup{}}
	root, ok := inspect(t.root)
	if !ok {
		return s
	}
	s.descend(root, scanning{host: root.owner, slices: true, containers: containers})
	s.readRuns()
	return s
}

// readRuns finds what `tacit run` made.
func (s *Scan) readRuns() {
	if own, ok := inspect(s.tree.own()); ok {
		s.parents = append(s.parents, own.Cgroup)
	}
	services, ok := inspect(s.tree.services())
	if !ok {
		return
	}
	s.parents = append(s.parents, services.Cgroup)
	for _, d := range services.children() {
		s.runs[filepath.Base(d.Path)] = d.Cgroup
	}
}

// Parents are the directories in which a unit, a container or a cgroup of
// `tacit run` could be made.
func (s *Scan) Parents() []Cgroup { return s.parents }

// Parent is the nearest directory that exists above a cgroup named by path, in
// either form of Selector.Cgroup.
func (s *Scan) Parent(cgroup string) (Cgroup, bool) {
	for path := s.tree.absolute(cgroup); path != s.tree.root; {
		path = filepath.Dir(path)
		if d, ok := inspect(path); ok {
			return d.Cgroup, true
		}
	}
	return Cgroup{}, false
}

// scanning says what may be found in a directory.
type scanning struct {
	host       uint32 // uid that owns the hooked root
	slices     bool   // units of the system's manager lie here
	containers bool   // containers of the host's engine lie here
	depth      int
}

// descend visits what lies in one directory, in path order.
func (s *Scan) descend(dir directory, in scanning) {
	s.parents = append(s.parents, dir.Cgroup)
	in.depth++
	for _, d := range dir.children() {
		below := in
		below.slices = in.slices && filepath.Ext(d.Path) == ".slice"
		below.containers = in.containers && d.owner == in.host && d.Path != s.tree.own()
		s.note(d.Cgroup, in.slices, below.containers)
		if (below.slices || below.containers) && in.depth < maxDepth {
			s.descend(d, below)
		}
	}
}

func (s *Scan) note(c Cgroup, unit, container bool) {
	base := filepath.Base(c.Path)
	if _, earlier := s.units[base]; unit && !earlier {
		s.units[base] = c
	}
	if id := containerID(c.Path); container && len(id) >= shortID {
		s.containers[id[:shortID]] = append(s.containers[id[:shortID]], c)
	}
}

// Cgroups returns the workload's cgroups. That of `tacit run NAME` counts
// always, so that a service can be started by hand beside its unit.
func (s *Scan) Cgroups(name identity.Name, sel Selector) []Cgroup {
	var out []Cgroup
	if c, ok := s.runs[string(name)]; ok {
		out = append(out, c)
	}
	if c, ok := s.selected(name, sel); ok {
		out = append(out, c)
	}
	return out
}

func (s *Scan) selected(name identity.Name, sel Selector) (Cgroup, bool) {
	switch {
	case sel.Cgroup != "":
		return s.byPath(s.tree.absolute(sel.Cgroup))
	case sel.SystemdUnit != "":
		return s.unit(sel.SystemdUnit)
	case sel.Container != "":
		return s.container(sel.Container)
	}
	return s.unit(string(name) + ".service")
}

// byPath asks the file system: a cgroup that is named may lie anywhere.
func (s *Scan) byPath(path string) (Cgroup, bool) {
	if path == s.tree.root || inside(s.tree.own(), path) {
		return Cgroup{}, false
	}
	d, ok := inspect(path)
	return d.Cgroup, ok
}

// unit finds units in slices only: what lies in a unit was made by that unit's
// programs (a user's manager is one), who may call it what they like.
func (s *Scan) unit(unit string) (Cgroup, bool) {
	if !strings.Contains(unit, ".") {
		unit += ".service"
	}
	c, ok := s.units[unit]
	return c, ok
}

// container matches docker-<id>.scope, libpod-<id>.scope, cri-containerd-<id>.scope
// and docker/<id>, but nothing in a directory that is delegated to a user:
// names in there are that user's choice.
func (s *Scan) container(id string) (Cgroup, bool) {
	if len(id) < shortID {
		return Cgroup{}, false
	}
	some := s.containers[id[:shortID]]
	i := slices.IndexFunc(some, func(c Cgroup) bool { return strings.HasPrefix(containerID(c.Path), id) })
	if i < 0 {
		return Cgroup{}, false
	}
	return some[i], true
}

// directory is a cgroup's directory as the file system shows it.
type directory struct {
	Cgroup
	owner uint32
	leaf  bool // no cgroup lies in it
}

// inspect looks at one directory; false when there is none.
func inspect(path string) (directory, bool) { return inspectAt(unix.AT_FDCWD, path, path) }

func inspectAt(dir int, name, path string) (directory, bool) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, 0); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return directory{}, false
	}
	// kernfs counts a directory's subdirectories in its links, "." and ".." included.
	return directory{Cgroup{path, st.Ino}, st.Uid, st.Nlink == 2}, true
}

// children returns the directories in a directory, in path order; none when it
// has gone.
func (d directory) children() []directory {
	if d.leaf {
		return nil
	}
	dir, err := os.Open(d.Path)
	if err != nil {
		return nil
	}
	defer dir.Close()
	entries, _ := dir.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	var out []directory
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if c, ok := inspectAt(int(dir.Fd()), e.Name(), filepath.Join(d.Path, e.Name())); ok {
			out = append(out, c)
		}
	}
	return out
}

// Within reports whether the cgroup of that id exists now and is path or lies
// below it.
func Within(path string, id uint64) bool {
	d, ok := inspect(path)
	return ok && d.holds(id)
}

func (d directory) holds(id uint64) bool {
	return d.ID == id || slices.ContainsFunc(d.children(), func(c directory) bool { return c.holds(id) })
}

// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// group is the cgroup that accounts for the memory of this process: of version 2 or,
// on a hybrid host, of version 1. Its files stay open. The zero value has no limit.
type group struct {
	names  names
	now    *os.File   // how much is used
	stat   *os.File   // of what kinds
	limits []*os.File // its own and those of the cgroups above
}

// names are the files of a version, and the lines of memory.stat.
type names struct {
	usage, limit         string
	anon, inactive, live string
}

func version1() names {
	return names{"memory.usage_in_bytes", "memory.limit_in_bytes", "total_rss", "total_inactive_file", "total_active_file"}
}

func version2() names {
	return names{"memory.current", "memory.max", "anon", "inactive_file", "active_file"}
}

// findGroup looks in the tables of the process and of the mounts.
func findGroup() group {
	groups, _ := os.ReadFile("/proc/self/cgroup")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	g, err := openGroup(locate(string(groups), string(mounts)))
	if err != nil {
		return group{} // no limit is known
	}
	return g
}

// locate returns the folder of the cgroup that accounts for memory, the folder where
// its tree is mounted, and its version's names.
func locate(groups, mounts string) (dir, root string, n names) {
	kind, n := "cgroup2", version2()
	for line := range strings.Lines(groups) { // number:controllers:path, cgroups(7)
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		if strings.Contains(","+f[1]+",", ",memory,") {
			dir, kind, n = f[2], "cgroup", version1()
			break
		}
		if f[1] == "" {
			dir = f[2]
		}
	}
	for line := range strings.Lines(mounts) { // proc_pid_mountinfo(5)
		where, what, _ := strings.Cut(line, " - ")
		w, f := strings.Fields(where), strings.Fields(what)
		if len(w) < 5 || len(f) < 3 || f[0] != kind || kind == "cgroup" && !strings.Contains(","+f[2]+",", ",memory,") {
			continue
		}
		return filepath.Join(w[4], strings.TrimPrefix(dir, w[3])), w[4], n
	}
	return "", "", n
}

// openGroup opens the nearest cgroup that accounts for memory, from dir upwards. root is
// one of them: in a container it is the container's own.
func openGroup(dir, root string, n names) (group, error) {
	g := group{names: n}
	for root != "" && strings.HasPrefix(dir, root) {
		if err := g.add(dir); err != nil {
			return group{}, errors.Join(err, g.close())
		}
		if dir == root {
			break
		}
		dir = filepath.Dir(dir)
	}
	return g, nil
}

// add opens the files of one cgroup, where it has them: that of the whole machine doesn't.
func (g *group) add(dir string) error {
	limit, err := os.Open(filepath.Join(dir, g.names.limit))
	if err != nil {
		return nil
	}
	g.limits = append(g.limits, limit)
	if g.now != nil {
		return nil
	}
	if g.now, err = os.Open(filepath.Join(dir, g.names.usage)); err != nil {
		return err
	}
	g.stat, err = os.Open(filepath.Join(dir, "memory.stat"))
	return err
}

func (g group) close() error {
	var errs []error
	for _, f := range append(g.limits, g.now, g.stat) {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// read reads all; a cgroup that is gone has no limit.
func (g group) read() (r reading) {
	for _, f := range g.limits {
		if limit := number(content(f)); limit > 0 && limit < math.MaxInt64/2 && (r.limit == 0 || limit < r.limit) {
			r.limit = limit // "max", or a number of that size, is none
		}
	}
	if r.limit == 0 {
		return r
	}
	r.usage = g.usage()
	var anon uint64
	for line := range bytes.Lines(content(g.stat)) {
		key, value, _ := bytes.Cut(line, []byte(" "))
		switch string(key) {
		case g.names.anon:
			anon = number(value)
		case g.names.inactive, g.names.live:
			r.cache += number(value)
		}
	}
	r.kernel = r.held() - min(r.held(), anon)
	return r
}

func (g group) usage() uint64 { return number(content(g.now)) }

// content reads a file of the kernel from its beginning.
func content(f *os.File) []byte {
	b := make([]byte, 16<<10)
	n, _ := f.ReadAt(b, 0) // always short: io.EOF
	return b[:n]
}

func number(b []byte) uint64 {
	n, _ := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
	return n
}

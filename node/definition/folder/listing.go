// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"tacit/node/definition"
)

// listing is the folder's files with a stamp each.
type listing struct {
	files map[string]stamp
	err   error // that the folder can't be listed
}

// stamp differs after a file was written, replaced or given other rights.
type stamp struct {
	size              int64
	mode              fs.FileMode
	device, inode     uint64
	modified, changed time.Time
	missing           string // why the file can't be examined
}

func examine(dir string) listing {
	names, err := list(dir)
	l := listing{make(map[string]stamp, len(names)), err}
	for _, name := range names {
		l.files[name] = stampOf(name)
	}
	return l
}

func stampOf(file string) stamp {
	st, err := os.Stat(file)
	if err != nil {
		return stamp{missing: err.Error()}
	}
	s := stamp{size: st.Size(), mode: st.Mode(), modified: st.ModTime()}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		s.device, s.inode, s.changed = sys.Dev, sys.Ino, time.Unix(sys.Ctim.Sec, sys.Ctim.Nsec)
	}
	return s
}

func (l listing) same(other listing) bool {
	return (l.err == nil) == (other.err == nil) && maps.Equal(l.files, other.files)
}

func (l listing) names() []string { return slices.Sorted(maps.Keys(l.files)) }

// reading is what was found in a file when it had that stamp.
type reading struct {
	stamp    stamp
	at       time.Time
	defs     []definition.Definition
	problems []definition.Problem
}

// fresh is longer than any file system's clock needs to tell two writes apart.
// A file that was written so shortly before it was read may have been written
// again with the same stamp.
const fresh = 2 * time.Second

// holds reports whether the file still has the content that was read.
func (r reading) holds(now stamp) bool {
	return now.missing == "" && r.stamp == now && r.at.Sub(now.changed) > fresh
}

// readFile returns either definitions or problems.
func readFile(path string, s stamp) reading {
	r := reading{stamp: s, at: time.Now()}
	text, err := read(path)
	if err != nil {
		r.at = time.Time{} // try again at the next reload
		r.problems = []definition.Problem{{File: path, Message: err.Error()}}
		return r
	}
	r.defs, r.problems = definition.Parse(path, text)
	return r
}

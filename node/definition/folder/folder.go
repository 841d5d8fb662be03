// SPDX-License-Identifier: Apache-2.0

// Package folder reads a directory of service files, and keeps the last good version
// of each. What a file means is the definition package's to say.
package folder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"tacit/node/definition"
)

// maxFile is the largest file that is read, in bytes.
const maxFile = 256 << 10

// Folder is a directory of service files. It remembers the last good version of
// each file. Safe for concurrent use.
type Folder struct {
	dir string

	mu   sync.Mutex
	good map[string][]definition.Definition // last good version by file; ids are unique over all
	seen listing                            // as of the last Reload
	read map[string]reading                 // by file, so that only changed files are parsed again
}

// New returns the folder at dir, which need not exist yet, without
// reading it. The error says that dir exists and is no directory.
func New(dir string) (*Folder, error) {
	st, err := os.Stat(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("services folder: %w", err)
	}
	if err == nil && !st.IsDir() {
		return nil, fmt.Errorf("services folder: %s is not a directory", dir)
	}
	return &Folder{dir: filepath.Clean(dir), good: map[string][]definition.Definition{}}, nil
}

// Remember sets the last good version of each file, as an earlier process has
// read them. Call it before the first Reload.
func (f *Folder) Remember(good map[string][]definition.Definition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.good, good)
}

// Good returns the last good version of each file, for Remember.
func (f *Folder) Good() map[string][]definition.Definition {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.good)
}

// Load reads dir once. A file with an error defines nothing.
func Load(dir string) ([]definition.Definition, []definition.Problem) {
	f, err := New(dir)
	if err != nil {
		return nil, []definition.Problem{{File: dir, Message: err.Error()}}
	}
	return f.Reload()
}

// Definitions returns the definitions in force, ordered by file and position.
func (f *Folder) Definitions() []definition.Definition {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.inForce()
}

func (f *Folder) inForce() []definition.Definition {
	var out []definition.Definition
	for _, file := range sortedKeys(f.good) {
		out = append(out, f.good[file]...)
	}
	return out
}

// Reload reads the *.hcl and *.json files that have changed, and returns the
// definitions that are in force now. A file with an error keeps its last good
// version; the definitions of a file that was removed are dropped.
func (f *Folder) Reload() ([]definition.Definition, []definition.Problem) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = examine(f.dir) // before reading: a change meanwhile shows as one
	if err := f.seen.err; err != nil {
		return f.inForce(), []definition.Problem{{File: f.dir, Message: "can't be listed: " + err.Error()}}
	}
	f.readAgain()
	var problems []definition.Problem
	next := map[string][]definition.Definition{}
	for _, file := range f.seen.names() {
		r := f.read[file]
		if next[file] = r.defs; len(r.problems) > 0 {
			problems = append(problems, r.problems...)
			next[file] = f.good[file]
		}
	}
	problems = append(problems, f.settle(next)...)
	f.good = next
	return f.inForce(), problems
}

// Forget has the next Reload parse every file, even one that looks unchanged.
func (f *Folder) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read = nil
}

// readAgain parses the files that have changed since they were parsed.
func (f *Folder) readAgain() {
	now := make(map[string]reading, len(f.seen.files))
	for file, s := range f.seen.files {
		r, known := f.read[file]
		if !known || !r.holds(s) {
			r = readFile(file, s)
		}
		now[file] = r
	}
	f.read = now
}

// settle returns a file to its last good version where it claims an id that
// another file has. The file that had the id keeps it; of two files that claim
// it newly, the first by name gets it. Last good versions share no id, so the
// loop ends.
func (f *Folder) settle(next map[string][]definition.Definition) []definition.Problem {
	var problems []definition.Problem
	for {
		loser, p := f.clash(next)
		if p == nil {
			return problems
		}
		problems = append(problems, *p)
		next[loser] = f.good[loser]
	}
}

func (f *Folder) clash(next map[string][]definition.Definition) (string, *definition.Problem) {
	type claim struct {
		file string
		def  definition.Definition
	}
	claims := map[string]claim{}
	for _, file := range sortedKeys(next) {
		for _, d := range next[file] {
			first, taken := claims[d.ID]
			if !taken {
				claims[d.ID] = claim{file, d}
				continue
			}
			winner, loser := first, claim{file, d}
			if owns(f.good[file], d.ID) {
				winner, loser = loser, winner
			}
			return loser.file, &definition.Problem{File: loser.file, Line: loser.def.Line(), Column: 1,
				Message: loser.def.Twice(winner.def)}
		}
	}
	return "", nil
}

func owns(defs []definition.Definition, id string) bool {
	return slices.ContainsFunc(defs, func(d definition.Definition) bool { return d.ID == id })
}

func sortedKeys(m map[string][]definition.Definition) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// list returns the paths of the service files; a folder that doesn't exist is empty.
func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if (ext == ".hcl" || ext == ".json") && !strings.HasPrefix(e.Name(), ".") && !e.IsDir() {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, err
}

// read reads regular files only: a FIFO would block the daemon.
func read(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("can't be read: %w", errors.Unwrap(err))
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("can't be read: %w", errors.Unwrap(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("larger than %d KiB; split it", maxFile>>10)
	}
	return text, err
}

// SPDX-License-Identifier: Apache-2.0

package definition

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
)

// maxFile is the largest file that is read, in bytes.
const maxFile = 256 << 10

// Folder is a directory of service files that remembers, file by file, what was
// good last. Safe for concurrent use.
type Folder struct {
	dir string

	mu   sync.Mutex
	good map[string][]Definition // by file; ids are unique over all
	seen string                  // fingerprint of what was read last
}

// NewFolder takes a directory, which need not exist yet. It reads nothing;
// Reload does. An error says that dir is something else.
func NewFolder(dir string) (*Folder, error) {
	st, err := os.Stat(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("services folder: %w", err)
	}
	if err == nil && !st.IsDir() {
		return nil, fmt.Errorf("services folder: %s is not a directory", dir)
	}
	return &Folder{dir: filepath.Clean(dir), good: map[string][]Definition{}}, nil
}

// Remember seeds what was good last, by file, for a folder that was read by an
// earlier process; call it before the first Reload.
func (f *Folder) Remember(good map[string][]Definition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.good, good)
}

// Good returns what each file said last when it was good, for Remember.
func (f *Folder) Good() map[string][]Definition {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.good)
}

// Load reads dir once, with nothing to fall back on.
func Load(dir string) ([]Definition, []Problem) {
	f, err := NewFolder(dir)
	if err != nil {
		return nil, []Problem{{File: dir, Message: err.Error()}}
	}
	return f.Reload()
}

// Definitions returns what is in force, in order of file and place.
func (f *Folder) Definitions() []Definition {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.inForce()
}

func (f *Folder) inForce() []Definition {
	var out []Definition
	for _, file := range sortedKeys(f.good) {
		out = append(out, f.good[file]...)
	}
	return out
}

// Reload reads every *.hcl and *.json file again and returns what is in force
// now. A bad file keeps what it last said; a file that is gone drops it.
func (f *Folder) Reload() ([]Definition, []Problem) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = fingerprint(f.dir) // before reading: a change meanwhile shows as one
	files, err := list(f.dir)
	if err != nil {
		return f.inForce(), []Problem{{File: f.dir, Message: "can't be listed: " + err.Error()}}
	}
	var problems []Problem
	next := map[string][]Definition{}
	for _, file := range files {
		defs, bad := parseFile(file)
		if len(bad) > 0 {
			problems = append(problems, bad...)
			defs = f.good[file]
		}
		next[file] = defs
	}
	problems = append(problems, f.settle(next)...)
	f.good = next
	return f.inForce(), problems
}

// settle takes back files that claim an id another file has. Who had the id
// keeps it; between two newcomers the first by name does. A file that loses
// falls back to what it last said, where it owned every id, so this ends.
func (f *Folder) settle(next map[string][]Definition) []Problem {
	var problems []Problem
	for {
		loser, p := f.clash(next)
		if p == nil {
			return problems
		}
		problems = append(problems, *p)
		next[loser] = f.good[loser]
	}
}

func (f *Folder) clash(next map[string][]Definition) (string, *Problem) {
	type claim struct {
		file string
		def  Definition
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
			return loser.file, &Problem{File: loser.file, Line: sourceLine(loser.def), Column: 1,
				Message: fmt.Sprintf("service id %s is defined in %s already; give one of them another id", d.ID, winner.def.Source)}
		}
	}
	return "", nil
}

func owns(defs []Definition, id string) bool {
	return slices.ContainsFunc(defs, func(d Definition) bool { return d.ID == id })
}

func sourceLine(d Definition) (line int) {
	_, _ = fmt.Sscanf(d.Source[strings.LastIndexByte(d.Source, ':')+1:], "%d", &line)
	return line
}

func sortedKeys(m map[string][]Definition) []string {
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

// parseFile returns either definitions or problems.
func parseFile(path string) ([]Definition, []Problem) {
	text, err := read(path)
	if err != nil {
		return nil, []Problem{{File: path, Message: err.Error()}}
	}
	return Parse(path, text)
}

// Parse reads the text of one file; its name's ending, .json or another, says
// which syntax. It returns either definitions or problems.
func Parse(path string, text []byte) ([]Definition, []Problem) {
	parse := parseHCL
	if filepath.Ext(path) == ".json" {
		parse = parseJSON
	}
	v, p := parse(text)
	if p != nil {
		p.File = path
		return nil, []Problem{*p}
	}
	r := &reader{file: path}
	defs := r.top(v)
	for i, d := range defs {
		if j := slices.IndexFunc(defs[:i], func(o Definition) bool { return o.ID == d.ID }); j >= 0 && d.ID != "" {
			r.fail(place{sourceLine(d), 1}, "service id %s is defined in %s already; give one of them another id", d.ID, defs[j].Source)
		}
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	return defs, nil
}

// read takes regular files only: a FIFO would hold the daemon up for ever.
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

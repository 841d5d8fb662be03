// SPDX-License-Identifier: Apache-2.0

// Package entries reads intentions and resolvers from files: our own form, and
// Consul's config entries. What it can't take over it names, with file and line. It must not
// compare with what is in force, nor change anything.
package entries

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tacit/node/api"
	"tacit/node/definition"
)

// maxFile is the largest file that is read, in bytes.
const maxFile = 32 << 20

// Stdin is the path that stands for standard input.
const Stdin = "-"

// Result is what the files say. Errors must be mended first. What is Unsupported
// has no meaning here, and can be left out without opening anything.
type Result struct {
	Intentions  []api.Wanted
	Resolvers   []api.WantedRules
	Errors      []error
	Unsupported []error

	drafts, splitters []*draft // of Resolvers
}

// Read reads files, folders (their *.hcl and *.json files) and standard input.
func Read(paths []string, stdin io.Reader) Result {
	var out Result
	for _, path := range paths {
		files, err := filesOf(path)
		if err != nil {
			out.Errors = append(out.Errors, err)
		}
		for _, file := range files {
			out.readFile(file, stdin)
		}
	}
	out.findTwins()
	out.combine()
	return out
}

func filesOf(path string) ([]string, error) {
	if path == Stdin {
		return []string{path}, nil
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, reason(err))
	}
	if !st.IsDir() {
		return []string{path}, nil
	}
	all, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, reason(err))
	}
	var out []string
	for _, f := range all {
		if ext := filepath.Ext(f.Name()); (ext == ".hcl" || ext == ".json") && !strings.HasPrefix(f.Name(), ".") && !f.IsDir() {
			out = append(out, filepath.Join(path, f.Name()))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no *.hcl or *.json file in this folder", path)
	}
	return out, nil
}

// reason is an error of the file system without operation and path.
func reason(err error) error { return cmp.Or(errors.Unwrap(err), err) }

func (r *Result) readFile(path string, stdin io.Reader) {
	text, err := textOf(path, stdin)
	if err != nil {
		r.Errors = append(r.Errors, fmt.Errorf("%s: %w", path, reason(err)))
		return
	}
	f := file{Result: r, path: path}
	if path == Stdin {
		f.path = "standard input"
	}
	syntax := f.path
	if start := bytes.TrimSpace(text); path == Stdin && len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		syntax += ".json"
	}
	top, err := definition.Syntax(syntax, text)
	if err != nil {
		if p, ok := errors.AsType[definition.Problem](err); ok {
			p.File = f.path
			err = p
		}
		r.Errors = append(r.Errors, err)
		return
	}
	f.top(top)
}

func textOf(path string, stdin io.Reader) ([]byte, error) {
	in := stdin
	if path != Stdin {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("larger than %d MiB; split it", maxFile>>20)
	}
	return text, err
}

// findTwins reports pairs that are given twice.
func (r *Result) findTwins() {
	type pair struct{ source, destination api.Name }
	first := make(map[pair]string, len(r.Intentions))
	for _, i := range r.Intentions {
		p := pair{i.Source, i.Destination}
		if from, twice := first[p]; twice {
			r.Errors = append(r.Errors, fmt.Errorf("%s: %s -> %s is given in %s already; keep one of them", i.From, i.Source, i.Destination, from))
			continue
		}
		first[p] = i.From
	}
}

// file is one file that is being read.
type file struct {
	*Result
	path string
}

func (f *file) problem(at definition.Item, format string, args ...any) error {
	return definition.Problem{File: f.path, Line: at.Line, Column: at.Column, Message: fmt.Sprintf(format, args...)}
}

func (f *file) fail(at definition.Item, format string, args ...any) {
	f.Errors = append(f.Errors, f.problem(at, format, args...))
}

func (f *file) unsupported(at definition.Item, format string, args ...any) {
	f.Unsupported = append(f.Unsupported, f.problem(at, format, args...))
}

// keyName is a key in one spelling: Consul takes CamelCase and snake_case.
func keyName(key string) string { return strings.ReplaceAll(strings.ToLower(key), "_", "") }

// field returns a block's field by its keyName.
func field(block definition.Item, key string) (definition.Item, bool) {
	i := slices.IndexFunc(block.Items, func(f definition.Item) bool { return keyName(f.Key) == key })
	if i < 0 {
		return definition.Item{}, false
	}
	return block.Items[i], true
}

// each calls read for every block of a list, or for a single block.
func (f *file) each(item definition.Item, what string, read func(definition.Item)) {
	switch item.Kind {
	case definition.KindBlock:
		read(item)
	case definition.KindList:
		for _, one := range item.Items {
			if one.Kind != definition.KindBlock {
				f.fail(one, "%s: want a block, not %s", what, one.Kind)
				continue
			}
			read(one)
		}
	default:
		f.fail(item, "%s: want a block, not %s", what, item.Kind)
	}
}

func (f *file) text(item definition.Item, what string) string {
	if item.Kind != definition.KindText {
		f.fail(item, "%s: want text, not %s", what, item.Kind)
		return ""
	}
	return item.Text
}

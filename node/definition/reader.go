// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"cmp"
	"fmt"
	"maps"
	"strconv"

	"tacit/node/definition/suggest"
)

// reader turns one file's values into definitions and collects the problems.
type reader struct {
	file     string
	problems []Problem
}

// keys are the fields that an object may have; any other field is a problem.
type keys map[string]func(field)

// skip is for fields that tacit doesn't need: nothing is lost without them.
func skip(field) {}

func (r *reader) fail(at place, format string, args ...any) {
	r.problems = append(r.problems, Problem{r.file, at.line, at.column, fmt.Sprintf(format, args...)})
}

// source is where a field stands, as file:line.
func (r *reader) source(f field) string { return fmt.Sprintf("%s:%d", r.file, f.at.line) }

// object calls its key's function for each field. path is for messages.
func (r *reader) object(f field, path string, known keys) {
	v, ok := r.single(f, path)
	if !ok {
		return
	}
	seen := map[string]bool{}
	for _, f := range v.fields {
		read, ok := known[f.key]
		switch {
		case !ok:
			r.fail(f.at, "%s: unknown key; %s", join(path, f.key), suggest.Instead(f.key, maps.Keys(known)))
		case seen[f.key]:
			r.fail(f.at, "%s: given twice", join(path, f.key))
		case f.kind != kindNull:
			read(f)
		}
		seen[f.key] = true
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// single accepts an object, also as the only element of a list, which is the
// form of an HCL block and of its translation to JSON.
func (r *reader) single(f field, path string) (value, bool) {
	v := f.value
	if v.kind == kindList && len(v.list) == 1 {
		v = v.list[0]
	}
	switch {
	case v.kind == kindObject:
		return v, true
	case v.kind == kindList && len(v.list) > 1:
		r.fail(v.list[1].at, "%s: given twice", path)
	default:
		r.fail(f.at, "%s: want a block, not %s", cmp.Or(path, "the file"), v.kind)
	}
	return v, false
}

// each calls read for every element of a list, or for a single object.
func (r *reader) each(f field, read func(field)) {
	if f.kind == kindObject {
		read(f)
		return
	}
	for _, v := range r.elements(f, f.key) {
		read(field{key: f.key, at: v.at, value: v})
	}
}

func (r *reader) elements(f field, path string) []value {
	if f.kind != kindList {
		r.fail(f.at, "%s: want a list, not %s", path, f.kind)
	}
	return f.list
}

func (r *reader) want(f field, path string, k kind) bool {
	if f.kind != k {
		r.fail(f.at, "%s: want %s, not %s", path, k, f.kind)
	}
	return f.kind == k
}

func (r *reader) string(f field, path string) string {
	if !r.want(f, path, kindText) {
		return ""
	}
	return f.text
}

// number reads a whole number from low to high; it returns low after a problem.
func (r *reader) number(f field, path string, low, high uint64) uint64 {
	if !r.want(f, path, kindNumber) {
		return low
	}
	n, err := strconv.ParseUint(f.text, 10, 64)
	if err != nil || n < low || n > high {
		r.fail(f.at, "%s: %.20s: must be a whole number from %d to %d", path, f.text, low, high)
		return low
	}
	return n
}

func (r *reader) strings(f field, path string) []string {
	var out []string
	for _, v := range r.elements(f, path) {
		out = append(out, r.string(field{key: f.key, at: v.at, value: v}, path))
	}
	return out
}

func (r *reader) table(f field, path string) map[string]string {
	out := map[string]string{}
	v, ok := r.single(f, path)
	if !ok {
		return out
	}
	for _, f := range v.fields {
		if _, again := out[f.key]; again {
			r.fail(f.at, "%s: given twice", join(path, f.key))
		}
		out[f.key] = r.string(f, join(path, f.key))
	}
	return out
}

// check adds err, if any, as a problem of f.
func (r *reader) check(f field, path string, err error) {
	if err != nil {
		r.fail(f.at, "%s: %v", path, err)
	}
}

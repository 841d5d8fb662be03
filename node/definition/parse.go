// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Parse reads the text of one file: JSON if path ends in .json, else HCL. It
// returns either definitions or problems.
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
			r.fail(place{d.Line(), 1}, "%s", d.Twice(defs[j]))
		}
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	return defs, nil
}

// Twice says that another definition has the id of this one.
func (d Definition) Twice(other Definition) string {
	if d.Ingress != nil {
		return fmt.Sprintf("%s is defined in %s already; give one of them another name", d.ID, other.Source)
	}
	return fmt.Sprintf("service id %s is defined in %s already; give one of them another id", d.ID, other.Source)
}

// Line is where the definition stands in its file; 0 means it is of no file.
func (d Definition) Line() (line int) {
	_, _ = fmt.Sscanf(d.Source[strings.LastIndexByte(d.Source, ':')+1:], "%d", &line)
	return line
}

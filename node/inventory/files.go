// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"tacit/node/definition"
)

// told is what the log said last about the service files.
type told struct {
	services map[string]definition.Definition // by id
	bad      []definition.Problem
}

// problems are those of the service files, as one error.
func (d *definitions) problems() error {
	var errs []error
	for _, p := range d.bad {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// readFiles reads the service files that have changed, and logs a line for each
// service that a file adds, changes or removes, and for each new problem.
func (i *Inventory) readFiles() {
	i.defined.reload()
	old, now := &i.defined.told, map[string]definition.Definition{}
	for _, d := range i.defined.folder.Definitions() {
		now[d.ID] = d
		switch was, known := old.services[d.ID]; {
		case !known:
			i.conf.Log.Info("service loaded", "service", d.Name, "id", d.ID, "file", d.Source)
		case !reflect.DeepEqual(was, d):
			i.conf.Log.Info("service changed", "service", d.Name, "id", d.ID, "file", d.Source, "changed", strings.Join(differing(was, d), ", "))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(old.services)) {
		if _, left := now[id]; !left {
			was := old.services[id]
			i.conf.Log.Info("service removed", "service", was.Name, "id", id, "file", was.Source)
		}
	}
	for _, p := range i.defined.bad {
		if !slices.Contains(old.bad, p) {
			i.conf.Log.Error("service file refused, its last good version stays in force", "at", fmt.Sprintf("%s:%d", p.File, p.Line), "err", p)
		}
	}
	*old = told{now, slices.Clone(i.defined.bad)}
}

// differing names the fields of two definitions that aren't equal, as in the state
// on disk.
func differing(a, b definition.Definition) []string {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	var out []string
	for i := range x.NumField() {
		name, _, _ := strings.Cut(x.Type().Field(i).Tag.Get("json"), ",")
		if name != "-" && !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			out = append(out, name)
		}
	}
	return out
}

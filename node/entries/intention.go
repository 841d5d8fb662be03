// SPDX-License-Identifier: Apache-2.0

package entries

import (
	"fmt"
	"strings"
	"unicode"

	"tacit/node/api"
	"tacit/node/definition"
	"tacit/policy"
)

const maxDescription = 512 // bytes, as the daemon's

// top reads a whole file: intention and service_resolver blocks, config entries, or a
// list of those.
func (f *file) top(v definition.Item) {
	if v.Kind == definition.KindList {
		f.each(v, "the file", f.entry)
		return
	}
	if v.Kind != definition.KindBlock {
		f.fail(v, "the file: want a block, not %s", v.Kind)
		return
	}
	if _, ok := field(v, "kind"); ok {
		if own, mixed := field(v, "intention"); mixed {
			f.fail(own, "intention: this file is one config entry (Kind); put intentions into a file of their own")
			return
		}
		f.entry(v)
		return
	}
	for _, item := range v.Items {
		switch keyName(item.Key) {
		case "intention", "intentions":
			f.each(item, item.Key, f.own)
		case "serviceresolver":
			f.resolver(item)
		case "configentries":
			f.each(item, item.Key, func(block definition.Item) {
				if list, ok := field(block, "bootstrap"); ok {
					f.each(list, item.Key+".bootstrap", f.entry)
				}
			})
		case "ingress":
			f.fail(item, "%s: the definition of an ingress; put the file into the folder --services-dir of its node", item.Key)
		case "service", "services":
			f.fail(item, "%s: a service definition; put the file into the folder --services-dir of its node", item.Key)
		default:
			f.fail(item, "%.40s: unknown key%s; known are intention and service_resolver, and Kind for a config entry", item.Key,
				api.Nearest(item.Key, []string{"intention", "service_resolver", "Kind"}))
		}
	}
}

// fields calls a function for each key of a block. Keys that have none are errors.
func (f *file) fields(block definition.Item, what string, known []string, read map[string]func(definition.Item)) {
	seen := map[string]bool{}
	for _, item := range block.Items {
		key := keyName(item.Key)
		do, ok := read[key]
		switch {
		case !ok:
			f.fail(item, "%s.%.40s: unknown key%s; known are %s", what, item.Key, api.Nearest(item.Key, known), strings.Join(known, ", "))
		case seen[key]:
			f.fail(item, "%s.%s: given twice", what, item.Key)
		case item.Kind != definition.KindNull:
			do(item)
		}
		seen[key] = true
	}
}

// own reads our own form: intention { source, destination, action, description }.
func (f *file) own(block definition.Item) {
	w := api.Wanted{From: fmt.Sprintf("%s:%d", f.path, block.Line)}
	before := len(f.Errors)
	f.fields(block, "intention", []string{"source", "destination", "action", "description"}, map[string]func(definition.Item){
		"source":      func(i definition.Item) { w.Source = f.endpoint(i, "source", policy.ParseSource) },
		"destination": func(i definition.Item) { w.Destination = f.endpoint(i, "destination", policy.ParseDestination) },
		"action":      func(i definition.Item) { w.Action = f.action(i) },
		"description": func(i definition.Item) { w.Description = f.description(i) },
	})
	if len(f.Errors) == before {
		f.add(block, w)
	}
}

// add takes an intention that has all it needs.
func (f *file) add(at definition.Item, w api.Wanted) {
	switch {
	case w.Source == "":
		f.fail(at, "the intention has no source")
	case w.Destination == "":
		f.fail(at, "the intention has no destination")
	case w.Action == "":
		f.fail(at, "the intention has no action; give allow or deny")
	default:
		f.Intentions = append(f.Intentions, w)
	}
}

func (f *file) endpoint(i definition.Item, what string, parse func(string) (api.Name, error)) api.Name {
	name := f.text(i, what)
	if i.Kind != definition.KindText {
		return ""
	}
	out, err := parse(name)
	if err != nil {
		f.fail(i, "%s: %v", what, err)
	}
	return out
}

func (f *file) action(i definition.Item) api.Change {
	text := f.text(i, "action")
	switch a := api.Change(strings.ToLower(text)); a {
	case api.ChangeAllow, api.ChangeDeny:
		return a
	}
	if i.Kind == definition.KindText {
		f.fail(i, "action: %.40q: must be allow or deny%s", text, api.Nearest(text, []string{"allow", "deny"}))
	}
	return ""
}

func (f *file) description(i definition.Item) string {
	text := f.text(i, "description")
	if len(text) > maxDescription || strings.ContainsFunc(text, unicode.IsControl) {
		f.fail(i, "description: must be one line of at most %d bytes", maxDescription)
	}
	return text
}

// SPDX-License-Identifier: Apache-2.0

package entries

import (
	"fmt"
	"strconv"
	"strings"

	"tacit/node/api"
	"tacit/node/definition"
	"tacit/policy"
	"tacit/policy/resolver"
)

// draft is what one block or config entry sets for a service's connections.
type draft struct {
	api.WantedRules
	only  api.Name // the subset that gets all connections: Consul's DefaultSubset
	empty bool     // it may set nothing
	fail  func(format string, args ...any)
}

// draft begins one at a block. Its Split is filled later, as are the rest.
func (f *file) draft(at definition.Item) *draft {
	d := &draft{fail: func(format string, args ...any) { f.fail(at, format, args...) }}
	d.From = fmt.Sprintf("%s:%d", f.path, at.Line)
	d.Subsets, d.Split = map[api.Name]resolver.Subset{}, map[api.Name]int{}
	return d
}

// combine makes the rules of each service from what its entries say.
func (r *Result) combine() {
	byName := map[api.Name]*draft{}
	for _, d := range r.drafts {
		if first, twice := byName[d.Service]; twice {
			d.fail("the rules of %s are given in %s already; keep one of them", d.Service, first.From)
			continue
		}
		byName[d.Service] = d
	}
	split := map[api.Name]string{}
	for _, s := range r.splitters {
		d := byName[s.Service]
		first, twice := split[s.Service]
		switch {
		case twice:
			s.fail("the split of %s is given in %s already; keep one of them", s.Service, first)
		case d == nil:
			s.fail("no service-resolver of these files has the subsets of %s", s.Service)
		default:
			d.divide(s)
		}
		split[s.Service] = s.From
	}
	for _, d := range r.drafts {
		if byName[d.Service] == d {
			r.finish(d)
		}
	}
}

// divide takes over a splitter. Its part without a subset is the default one's.
func (d *draft) divide(s *draft) {
	for name, weight := range s.Split {
		if name == "" {
			name = d.only
		}
		if name == "" {
			s.fail("Splits: a part has no ServiceSubset, and the service-resolver of %s no DefaultSubset", s.Service)
			continue
		}
		d.Split[name] += weight
	}
}

func (r *Result) finish(d *draft) {
	if len(d.Split) == 0 && d.only != "" {
		d.Split[d.only] = 100
	}
	if d.empty && len(d.Subsets)+len(d.Split)+len(d.Failover) == 0 {
		return
	}
	if err := d.Validate(); err != nil {
		d.fail("the rules of %s: %s", d.Service, strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	r.Resolvers = append(r.Resolvers, d.WantedRules)
}

// resolver reads our own form: service_resolver "db" { subset "v1" {…} split {…} failover {…} }.
func (f *file) resolver(item definition.Item) {
	f.labelled(item, "service_resolver", func(name string, block definition.Item) {
		d := f.draft(block)
		d.Service = f.name(block, "service_resolver", name)
		before := len(f.Errors)
		f.fields(block, "service_resolver", []string{"subset", "split", "failover"}, map[string]func(definition.Item){
			"subset":   func(i definition.Item) { f.subsets(i, d) },
			"split":    func(i definition.Item) { f.each(i, "split", func(b definition.Item) { f.split(b, d) }) },
			"failover": func(i definition.Item) { f.each(i, "failover", func(b definition.Item) { f.failover(b, d) }) },
		})
		if len(f.Errors) == before && d.Service != "" {
			f.drafts = append(f.drafts, d)
		}
	})
}

// labelled calls read for each block with a label, or field of an object.
func (f *file) labelled(item definition.Item, what string, read func(label string, block definition.Item)) {
	f.each(item, what, func(outer definition.Item) {
		for _, named := range outer.Items {
			if named.Kind != definition.KindBlock && named.Kind != definition.KindList {
				f.fail(named, "%s.%.40s: want a name and a block: %s \"NAME\" { … }", what, named.Key, what)
				continue
			}
			f.each(named, what+" "+named.Key, func(block definition.Item) { read(named.Key, block) })
		}
	})
}

func (f *file) subsets(item definition.Item, d *draft) {
	f.labelled(item, "subset", func(label string, block definition.Item) {
		var s resolver.Subset
		f.fields(block, "subset", []string{"tag", "meta"}, map[string]func(definition.Item){
			"tag": func(i definition.Item) { s.Tag = f.text(i, "tag") },
			"meta": func(i definition.Item) {
				s.Meta = map[string]string{}
				f.each(i, "meta", func(pairs definition.Item) {
					for _, p := range pairs.Items {
						s.Meta[p.Key] = f.text(p, "meta."+p.Key)
					}
				})
			},
		})
		f.addSubset(block, label, s, d)
	})
}

func (f *file) addSubset(at definition.Item, label string, s resolver.Subset, d *draft) {
	name := f.name(at, "subset", label)
	if _, twice := d.Subsets[name]; twice {
		f.fail(at, "subset %s: given twice", name)
	}
	if name != "" {
		d.Subsets[name] = s
	}
}

func (f *file) split(block definition.Item, d *draft) {
	for _, part := range block.Items {
		name := f.name(part, "split", part.Key)
		weight, err := strconv.Atoi(part.Text)
		if part.Kind != definition.KindNumber || err != nil {
			f.fail(part, "split.%.40s: want a whole number from 0 to %d", part.Key, resolver.MaxWeight)
			continue
		}
		if _, twice := d.Split[name]; twice {
			f.fail(part, "split.%s: given twice", name)
		}
		d.Split[name] = weight
	}
}

func (f *file) failover(block definition.Item, d *draft) {
	f.fields(block, "failover", []string{"services"}, map[string]func(definition.Item){
		"services": func(i definition.Item) {
			if i.Kind != definition.KindList {
				f.fail(i, "failover.services: want a list, not %s", i.Kind)
				return
			}
			for _, one := range i.Items {
				d.Failover = append(d.Failover, f.service(one, "failover.services"))
			}
		},
	})
}

// service reads the name of a service, not "*".
func (f *file) service(i definition.Item, what string) api.Name {
	name := f.endpoint(i, what, policy.ParseDestination)
	if name == policy.Any {
		f.fail(i, "%s: %q stands for no single service", what, policy.Any)
		return ""
	}
	return name
}

// name reads the name of a service or subset that is a key.
func (f *file) name(at definition.Item, what, text string) api.Name {
	at.Kind, at.Text = definition.KindText, text
	return f.service(at, what)
}

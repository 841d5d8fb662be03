// SPDX-License-Identifier: Apache-2.0

package entries

import (
	"errors"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tacit/node/api"
	"tacit/node/definition"
	"tacit/policy/resolver"
)

// unset says whether a setting has its zero value, which Consul also prints.
func unset(i definition.Item) bool {
	switch i.Kind {
	case definition.KindList, definition.KindBlock:
		return !slices.ContainsFunc(i.Items, func(in definition.Item) bool { return !unset(in) })
	}
	return slices.Contains([]string{"", "0", "0s", "false"}, i.Text)
}

// resolverReasons say why settings of a service-resolver have no meaning here.
func resolverReasons() map[string]string {
	return map[string]string{
		"redirect":       "connections aren't redirected: let callers use the other name, or list it as failover",
		"connecttimeout": "attempts have fixed limits (docs/balancing.md)",
		"requesttimeout": "requests aren't read",
		"loadbalancer":   "set balance in the definition of the service",
	}
}

// serviceResolver reads Kind = "service-resolver".
func (f *file) serviceResolver(block definition.Item) {
	d, before := f.draft(block), len(f.Errors)
	d.empty = true
	for _, item := range block.Items {
		switch key := keyName(item.Key); key {
		case "kind", "meta", "createindex", "modifyindex", "hash":
		case "name":
			d.Service = f.service(item, "Name")
		case "namespace", "partition":
			f.defaultOnly(item)
		case "defaultsubset":
			if !unset(item) {
				d.only = f.service(item, "DefaultSubset")
			}
		case "subsets":
			f.labelled(item, "Subsets", func(label string, b definition.Item) { f.consulSubset(label, b, d) })
		case "failover":
			f.labelled(item, "Failover", func(label string, b definition.Item) { f.consulFailover(label, b, d) })
		case "prioritizebylocality":
			if mode, ok := field(item, "mode"); !ok || mode.Text != "failover" {
				f.without("service-resolver", item, "instances in the caller's zone always go first, as with the mode failover")
			}
		default:
			f.without("service-resolver", item, resolverReasons()[key])
		}
	}
	if d.Service == "" && len(f.Errors) == before {
		f.fail(block, "service-resolver has no Name, which is the service")
	}
	if len(f.Errors) == before {
		f.drafts = append(f.drafts, d)
	}
}

// without names a setting that has no meaning here, unless it isn't set.
func (f *file) without(what string, item definition.Item, why string) {
	if why == "" {
		why = "it has no meaning here"
	}
	if !unset(item) {
		f.unsupported(item, "%s.%s: %s", what, item.Key, why)
	}
}

func (f *file) consulSubset(label string, block definition.Item, d *draft) {
	for _, item := range block.Items {
		switch keyName(item.Key) {
		case "filter":
			s, ok := readFilter(f.text(item, "Filter"))
			if !ok {
				f.unsupported(item, "Filter of subset %s: only Service.Meta.KEY == \"VALUE\" and one \"TAG\" in Service.Tags, joined with and, are understood", label)
				return
			}
			f.addSubset(block, label, s, d)
		case "onlypassing":
			f.without("Subsets."+label, item, "an instance with a warning counts as healthy")
		default:
			f.without("Subsets."+label, item, "")
		}
	}
	if _, ok := field(block, "filter"); !ok {
		f.unsupported(block, "Subsets.%s: a subset without a Filter is all instances", label)
	}
}

// readFilter reads the filters that select by tag and meta.
func readFilter(text string) (s resolver.Subset, ok bool) {
	const word = "(?:\"([^\"]*)\"|`([^`]*)`|([A-Za-z0-9_.-]+))"
	meta := regexp.MustCompile(`^Service\.Meta(?:\.([A-Za-z0-9_-]+)|\[\s*"([^"]+)"\s*\])\s*==\s*` + word + `$`)
	in := regexp.MustCompile(`^` + word + `\s+in\s+Service\.Tags$`)
	contains := regexp.MustCompile(`^Service\.Tags\s+contains\s+` + word + `$`)
	for _, term := range regexp.MustCompile(`\s+and\s+`).Split(strings.TrimSpace(text), -1) {
		if m := meta.FindStringSubmatch(term); m != nil {
			key := m[1] + m[2]
			if _, twice := s.Meta[key]; twice {
				return s, false
			}
			if s.Meta == nil {
				s.Meta = map[string]string{}
			}
			s.Meta[key] = strings.Join(m[3:], "")
			continue
		}
		m := slices.Concat(in.FindStringSubmatch(term), contains.FindStringSubmatch(term))
		if len(m) == 0 || s.Tag != "" {
			return s, false
		}
		s.Tag = strings.Join(m[1:], "")
	}
	return s, s.Tag != "" || len(s.Meta) > 0
}

// consulFailover reads the failover of all subsets.
func (f *file) consulFailover(label string, block definition.Item, d *draft) {
	if label != "*" {
		f.unsupported(block, "Failover.%s: failover is for the whole service; write it for \"*\"", label)
		return
	}
	for _, item := range block.Items {
		switch keyName(item.Key) {
		case "service":
			if !unset(item) {
				d.Failover = append(d.Failover, f.service(item, "Service"))
			}
		case "targets":
			f.each(item, "Targets", func(target definition.Item) { f.target(target, d) })
		default:
			f.without("Failover", item, "failover is to other services of this mesh, in their order")
		}
	}
}

func (f *file) target(block definition.Item, d *draft) {
	before := len(f.Unsupported)
	var name api.Name
	for _, item := range block.Items {
		switch keyName(item.Key) {
		case "service":
			name = f.service(item, "Service")
		case "namespace", "partition":
			f.defaultOnly(item)
		default:
			f.without("Targets", item, "failover is to other services of this mesh, as a whole")
		}
	}
	switch {
	case len(f.Unsupported) > before: // it is another target than this service
	case name == "":
		f.fail(block, "Targets: give the Service")
	default:
		d.Failover = append(d.Failover, name)
	}
}

// serviceSplitter reads Kind = "service-splitter".
func (f *file) serviceSplitter(block definition.Item) {
	s, before := f.draft(block), len(f.Errors)
	total := 0
	if name, ok := field(block, "name"); ok {
		s.Service = f.service(name, "Name")
	}
	for _, item := range block.Items {
		switch keyName(item.Key) {
		case "kind", "name", "meta", "createindex", "modifyindex", "hash":
		case "namespace", "partition":
			f.defaultOnly(item)
		case "splits":
			f.each(item, "Splits", func(b definition.Item) { total += f.part(b, s) })
		default:
			f.without("service-splitter", item, "")
		}
	}
	switch {
	case len(f.Errors) > before:
	case s.Service == "":
		f.fail(block, "service-splitter has no Name, which is the service")
	case total != 100*hundredths && len(f.Unsupported) == 0:
		f.fail(block, "Splits: the weights add up to %g, and must to 100", float64(total)/hundredths)
	default:
		s.shorten()
		f.splitters = append(f.splitters, s)
	}
}

// hundredths: Consul's weights have two decimal places.
const hundredths = 100

// part reads one element of Splits and returns its weight in hundredths.
func (f *file) part(block definition.Item, s *draft) int {
	var subset api.Name
	weight, err := 0, errors.New("none")
	for _, item := range block.Items {
		switch keyName(item.Key) {
		case "weight":
			var percent float64
			percent, err = strconv.ParseFloat(item.Text, 64)
			weight = int(math.Round(min(max(percent, -1), 101) * hundredths))
		case "servicesubset":
			if !unset(item) {
				subset = f.service(item, "ServiceSubset")
			}
		case "service":
			if text := f.text(item, "Service"); text != "" && !strings.EqualFold(text, string(s.Service)) {
				f.unsupported(item, "Splits.Service: connections are split between subsets, not between services")
			}
		case "namespace", "partition":
			f.defaultOnly(item)
		default:
			f.without("Splits", item, "requests aren't read")
		}
	}
	if err != nil || weight < 0 || weight > 100*hundredths {
		f.fail(block, "Splits: Weight: want a number from 0 to 100")
		return 0
	}
	s.Split[subset] += weight
	return weight
}

// shorten makes whole percents of hundredths, where all are.
func (d *draft) shorten() {
	for _, weight := range d.Split {
		if weight%hundredths != 0 {
			return
		}
	}
	for name := range d.Split {
		d.Split[name] /= hundredths
	}
}

// SPDX-License-Identifier: Apache-2.0

// Package resolver is what operators set for the connections to a service: its
// subsets, how new connections are split between them, and which services answer
// where it can't. It must not choose an instance, nor know which ones are healthy:
// node/catalog does.
package resolver

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"tacit/identity"
)

// Limits of one service's rules.
const (
	maxSubsets  = 32
	maxFailover = 16
	maxMeta     = 16
	MaxWeight   = 10_000
)

// Rules are those of one service.
type Rules struct {
	Service  identity.Name            `json:"service"`
	Subsets  map[identity.Name]Subset `json:"subsets,omitempty"`
	Split    map[identity.Name]int    `json:"split,omitempty"`    // weights of subsets; nil: every instance counts
	Failover []identity.Name          `json:"failover,omitempty"` // in this order
}

// Subset is the instances that have the tag, if there is one, and all of Meta.
type Subset struct {
	Tag  string            `json:"tag,omitempty"`
	Meta map[string]string `json:"meta,omitempty"`
}

// NameOf is the name by which a node knows a service's subset where it knows services
// by theirs: "v1.db". No service can have it.
func NameOf(subset, service identity.Name) identity.Name { return subset + "." + service }

// Cut returns the parts of a subset's name; of a service's, subset is "".
func Cut(name identity.Name) (subset, service identity.Name) {
	if first, rest, dotted := strings.Cut(string(name), "."); dotted {
		return identity.Name(first), identity.Name(rest)
	}
	return "", name
}

// Has reports whether an instance with these tags and meta is in the subset.
func (s Subset) Has(tags []string, meta map[string]string) bool {
	if s.Tag != "" && !slices.Contains(tags, s.Tag) {
		return false
	}
	for k, v := range s.Meta {
		if got, ok := meta[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// String returns "tag v1, version = 2".
func (s Subset) String() string {
	var out []string
	if s.Tag != "" {
		out = append(out, "tag "+s.Tag)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Meta)) {
		out = append(out, k+" = "+s.Meta[k])
	}
	return strings.Join(out, ", ")
}

// Takes reports whether new connections to the service may go to an instance: with
// a split, only those of a subset that has a weight.
func (r Rules) Takes(tags []string, meta map[string]string) bool {
	if len(r.Split) == 0 {
		return true
	}
	for name, weight := range r.Split {
		if weight > 0 && r.Subsets[name].Has(tags, meta) {
			return true
		}
	}
	return false
}

// Equal reports whether two services have the same rules.
func (r Rules) Equal(o Rules) bool {
	same := func(a, b Subset) bool { return a.Tag == b.Tag && maps.Equal(a.Meta, b.Meta) }
	return r.Service == o.Service && maps.EqualFunc(r.Subsets, o.Subsets, same) &&
		maps.Equal(r.Split, o.Split) && slices.Equal(r.Failover, o.Failover)
}

// String returns "split v1 = 90, v2 = 10; failover db-standby", without the service.
func (r Rules) String() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.Subsets)) {
		out = append(out, fmt.Sprintf("subset %s (%s)", name, r.Subsets[name]))
	}
	var split []string
	for _, name := range slices.Sorted(maps.Keys(r.Split)) {
		split = append(split, fmt.Sprintf("%s = %d", name, r.Split[name]))
	}
	if len(split) > 0 {
		out = append(out, "split "+strings.Join(split, ", "))
	}
	if len(r.Failover) > 0 {
		var names []string
		for _, f := range r.Failover {
			names = append(names, string(f))
		}
		out = append(out, "failover "+strings.Join(names, ", "))
	}
	return strings.Join(out, "; ")
}

// Validate checks rules that were received. The error names what is wrong.
func (r Rules) Validate() error {
	errs := []error{checkName("service", r.Service)}
	if len(r.Subsets)+len(r.Failover) == 0 {
		errs = append(errs, errors.New("neither subsets nor failover is set"))
	}
	if len(r.Subsets) > maxSubsets || len(r.Failover) > maxFailover {
		errs = append(errs, fmt.Errorf("%d subsets and %d services for failover: at most %d and %d", len(r.Subsets), len(r.Failover), maxSubsets, maxFailover))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Subsets)) {
		errs = append(errs, checkName("subset", name))
		if err := r.Subsets[name].validate(); err != nil {
			errs = append(errs, fmt.Errorf("subset %s: %w", name, err))
		}
	}
	errs = append(errs, r.checkSplit())
	for i, name := range r.Failover {
		errs = append(errs, checkName("failover", name))
		switch {
		case name == r.Service:
			errs = append(errs, fmt.Errorf("failover: %s can't stand in for itself", name))
		case slices.Contains(r.Failover[:i], name):
			errs = append(errs, fmt.Errorf("failover: %s is given twice", name))
		}
	}
	return errors.Join(errs...)
}

func (r Rules) checkSplit() error {
	if len(r.Split) == 0 {
		return nil
	}
	total := 0
	for _, name := range slices.Sorted(maps.Keys(r.Split)) {
		weight := r.Split[name]
		if _, ok := r.Subsets[name]; !ok {
			return fmt.Errorf("split: there is no subset %.63q", string(name))
		}
		if weight < 0 || weight > MaxWeight {
			return fmt.Errorf("split: %s = %d: use 0 to %d", name, weight, MaxWeight)
		}
		total += weight
	}
	if total == 0 {
		return errors.New("split: no subset has a weight, so no connection could be made")
	}
	return nil
}

func (s Subset) validate() error {
	if s.Tag == "" && len(s.Meta) == 0 {
		return errors.New("give a tag, or meta")
	}
	if len(s.Meta) > maxMeta {
		return fmt.Errorf("%d meta pairs: at most %d", len(s.Meta), maxMeta)
	}
	err := checkText("tag", s.Tag, 255)
	for k, v := range s.Meta {
		err = errors.Join(err, checkText("meta key", k, 128), checkText("meta value", v, 512))
	}
	return err
}

func checkName(what string, name identity.Name) error {
	folded, err := identity.ParseName(string(name))
	if err == nil && folded != name {
		err = fmt.Errorf("%q must be lower case", name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// checkText accepts text that can be shown on a terminal.
func checkText(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s of %d bytes: at most %d", what, len(s), limit)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%s %.80q: must be printable text", what, s)
	}
	return nil
}

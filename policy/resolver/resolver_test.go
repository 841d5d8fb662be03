// SPDX-License-Identifier: Apache-2.0

package resolver_test

import (
	"fmt"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/policy/resolver"
)

type names = []identity.Name

func rules() resolver.Rules {
	return resolver.Rules{Service: "db", Failover: names{"db2", "db3"}, Split: map[identity.Name]int{"v1": 90, "v2": 10, "old": 0},
		Subsets: map[identity.Name]resolver.Subset{"v1": {Tag: "v1"}, "v2": {Meta: map[string]string{"version": "2", "a": "b"}}, "old": {Tag: "old"}}}
}

// TestTakes: a new connection goes to an instance of a subset with a weight, or,
// without a split, to any.
func TestTakes(t *testing.T) {
	for _, c := range []struct {
		tags string
		meta map[string]string
		want bool
	}{
		{"v1", nil, true},
		{"old", nil, false},
		{"old v1", nil, true},
		{"", nil, false},
		{"", map[string]string{"version": "2", "a": "b", "more": ""}, true},
		{"", map[string]string{"version": "2"}, false},
	} {
		if got := rules().Takes(strings.Fields(c.tags), c.meta); got != c.want {
			t.Errorf("%q %v: %v", c.tags, c.meta, got)
		}
		if !(resolver.Rules{}).Takes(strings.Fields(c.tags), c.meta) {
			t.Errorf("%q %v: refused without a split", c.tags, c.meta)
		}
	}
}

func TestCut(t *testing.T) {
	for name, want := range map[identity.Name]names{"db": {"", "db"}, resolver.NameOf("v1", "db"): {"v1", "db"}, "a.b.c": {"a", "b.c"}} {
		if subset, service := resolver.Cut(name); subset != want[0] || service != want[1] {
			t.Errorf("%s: %s of %s", name, subset, service)
		}
	}
}

func TestString(t *testing.T) {
	const want = "subset old (tag old); subset v1 (tag v1); subset v2 (a = b, version = 2); split old = 0, v1 = 90, v2 = 10; failover db2, db3"
	if got := rules().String(); got != want {
		t.Error(got)
	}
}

// TestValidate: each rule that can't be meant is refused, and says why.
func TestValidate(t *testing.T) {
	if err := rules().Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*resolver.Rules){
		"must be lower case":               func(r *resolver.Rules) { r.Service = "DB" },
		"neither subsets nor failover":     func(r *resolver.Rules) { *r = resolver.Rules{Service: "db"} },
		"there is no subset \"v3\"":        func(r *resolver.Rules) { r.Split["v3"] = 1 },
		"v2 = -1: use 0 to 10000":          func(r *resolver.Rules) { r.Split["v2"] = -1 },
		"v1 = 10001: use 0 to 10000":       func(r *resolver.Rules) { r.Split["v1"] = 10001 },
		"no subset has a weight":           func(r *resolver.Rules) { r.Split = map[identity.Name]int{"v1": 0} },
		"db can't stand in for itself":     func(r *resolver.Rules) { r.Failover = names{"db2", "db"} },
		"db2 is given twice":               func(r *resolver.Rules) { r.Failover = names{"db2", "db2"} },
		"failover: name \"*\"":             func(r *resolver.Rules) { r.Failover = names{"*"} },
		"subset v1: give a tag, or meta":   func(r *resolver.Rules) { r.Subsets["v1"] = resolver.Subset{} },
		"subset: name \"a.b\"":             func(r *resolver.Rules) { r.Subsets["a.b"] = resolver.Subset{Tag: "x"} },
		"tag \"\\x1b\": must be printable": func(r *resolver.Rules) { r.Subsets["v1"] = resolver.Subset{Tag: "\x1b"} },
		"at most 32 and 16": func(r *resolver.Rules) {
			for i := range 17 {
				r.Failover = append(r.Failover, identity.Name(fmt.Sprint("s", i)))
			}
		},
		"17 meta pairs": func(r *resolver.Rules) {
			for i := range 15 {
				r.Subsets["v2"].Meta[fmt.Sprint(i)] = ""
			}
		},
	} {
		r := rules()
		change(&r)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if r.Equal(rules()) {
			t.Errorf("%s: equal", want)
		}
	}
	if !rules().Equal(rules()) {
		t.Error("not equal to itself")
	}
}

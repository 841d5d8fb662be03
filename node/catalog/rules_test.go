// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
)

// ruled are records with resolvers.
type ruled struct {
	records
	rules []resolver.Rules
}

func (r ruled) Resolvers() []resolver.Rules { return r.rules }

func (ruled) Node(n identity.Name) (statement.Node, bool) {
	return statement.Node{Node: n, Address: "10.0.0.9", LanePort: 7947}, true
}

// runs are instances, one for each word: "db@a:5432/v1" has the tag v1, "db@a:5432!" is down.
func runs(text string) (out records) {
	for i, word := range strings.Fields(text) {
		body := statement.Instance{ID: fmt.Sprint(i)}
		word, tag, _ := strings.Cut(word, "/")
		if tag != "" {
			body.Tags = []string{tag}
		}
		word, down := strings.CutSuffix(word, "!")
		if down {
			body.Down = "listener"
		}
		service, at, _ := strings.Cut(word, "@")
		node, port, _ := strings.Cut(at, ":")
		body.Service, body.Node = identity.Name(service), identity.Name(node)
		if _, err := fmt.Sscan(port, &body.Port); err != nil {
			panic(err)
		}
		out = append(out, body)
	}
	return out
}

// TestFailover: who answers for a service, on which port, and to whom.
func TestFailover(t *testing.T) {
	for name, c := range map[string]struct {
		runs   string
		port   uint16
		denied identity.Name
		tried  string // nodes
		want   string // service@node:port others, or reason
	}{
		"itself":                          {runs: "db@a:1 db2@b:1", port: 1, want: "db@a:1 true"},
		"the first one":                   {runs: "db@a:1! db2@b:1 db3@c:1", port: 1, want: "db2@b:1 true"},
		"the first one that has":          {runs: "db@a:1! db2@b:1! db3@c:1", port: 1, want: "db3@c:1 false"},
		"the first one that may":          {runs: "db@a:1! db2@b:1 db3@c:1", port: 1, denied: "db2", want: "db3@c:1 false"},
		"nobody":                          {runs: "db@a:1! db2@b:1!", port: 1, want: "instance: no instance of db is healthy, db2 has none either, db3 has none either"},
		"nobody who may":                  {runs: "db@a:1! db2@b:1", port: 1, denied: "db2", want: "instance: no instance of db is healthy, the caller may not call db2, db3 has none either"},
		"its own failover isn't followed": {runs: "db@a:1! loop@b:1", port: 1, want: "instance: no instance of db is healthy, db2 has none either, db3 has none either"},
		"one port each":                   {runs: "db@a:1! db2@b:2", port: 1, want: "db2@b:2 false"},
		"port 80 of one port each":        {runs: "db@a:1! db2@b:2", port: 80, want: "db2@b:2 false"},
		"the same port of two":            {runs: "db@a:1! db2@b:2 db2@c:1", port: 1, want: "db2@c:1 false"},
		"two ports, none is the same":     {runs: "db@a:1! db2@b:2 db2@c:3 db3@d:1", port: 1, want: "db3@d:1 false"},
		"two ports, of which one is down": {runs: "db@a:1! db@a:2 db2@b:1", port: 1, want: "db2@b:1 false"},
		"of two ports, not another":       {runs: "db@a:1! db@a:2 db2@b:3", port: 1, want: "instance: no instance of db is healthy, db2 has none either, db3 has none either"},
		"no such port":                    {runs: "db@a:1! db2@b:2", port: 3, want: "port: db has no port 3 (it has [1])"},
		"no instance at all":              {runs: "db2@b:2 db3@c:2", port: 2, want: "db2@b:2 true"},
		"all its own were tried":          {runs: "db@a:1 db2@b:1", port: 1, tried: "a", want: "db2@b:1 false"},
		"all were tried":                  {runs: "db@a:1 db2@b:1", port: 1, tried: "a b", want: "db@a:1 false"},
		"the standby's were tried":        {runs: "db@a:1! db2@b:1 db3@c:1", port: 1, tried: "b", want: "db3@c:1 false"},
		"its split leaves it out":         {runs: "db@a:1! db2@b:1/old db2@c:1/new", port: 1, want: "db2@c:1 false"},
	} {
		t.Run(name, func(t *testing.T) {
			cat := New("here", ruled{runs(c.runs), []resolver.Rules{
				{Service: "db", Failover: []identity.Name{"db2", "db3"}},
				{Service: "db2", Failover: []identity.Name{"loop"}, Split: map[identity.Name]int{"all": 1, "old": 0},
					Subsets: map[identity.Name]resolver.Subset{"old": {Tag: "old"}, "all": {Meta: map[string]string{}}}},
			}}, func(identity.Name) bool { return true })
			if strings.Contains(c.runs, "old") {
				cat.rules["db2"].Subsets["all"] = resolver.Subset{Tag: "new"}
			}
			q := call("db", c.port)
			q.Allowed = func(n identity.Name) bool { return n != c.denied }
			q.Tried = func(in Instance) bool { return slices.Contains(strings.Fields(c.tried), string(in.Node)) }
			in, others, err := cat.Pick(q)
			got := fmt.Sprintf("%s@%s:%d %v", in.Service, in.Node, in.Port, others)
			if err != nil {
				r := err.(*policy.Refusal)
				got = fmt.Sprintf("%s: %s", r.Reason, r.Detail)
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestOthersCount: an untried instance of a service that stands in counts as one that
// is left.
func TestOthersCount(t *testing.T) {
	cat := New("here", ruled{runs("db@a:1 db2@b:1"), []resolver.Rules{{Service: "db", Failover: []identity.Name{"db2"}}}}, func(identity.Name) bool { return true })
	if _, others, _ := cat.Pick(call("db", 1)); !others {
		t.Error("none is left")
	}
	q := call("db", 1)
	q.Allowed = func(identity.Name) bool { return false }
	if _, others, _ := cat.Pick(q); others {
		t.Error("one is left that the caller may not call")
	}
}

// TestSubset: a call to a subset gets an instance of it, whatever its weight, or of a
// service that stands in, and never of another subset.
func TestSubset(t *testing.T) {
	rules := resolver.Rules{Service: "db", Split: map[identity.Name]int{"v1": 0, "v2": 1}, Failover: []identity.Name{"db2"},
		Subsets: map[identity.Name]resolver.Subset{"v1": {Tag: "v1"}, "v2": {Tag: "v2"}}}
	for text, want := range map[string]string{
		"db@a:1/v1 db@b:1/v2":          "db@a",
		"db@a:1/v1! db@b:1/v2":         "no instance in the subset v1 of db is healthy, db2 has none either",
		"db@a:1/v1! db@b:1/v2 db2@c:1": "db2@c",
	} {
		cat := New("here", ruled{runs(text), []resolver.Rules{rules}}, func(identity.Name) bool { return true })
		q := call("db", 1)
		q.Subset = "v1"
		in, _, err := cat.Pick(q)
		got := fmt.Sprintf("%s@%s", in.Service, in.Node)
		if err != nil {
			got = err.(*policy.Refusal).Detail
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	cat := New("here", runs("db@a:1"), func(identity.Name) bool { return true })
	q := call("db", 1)
	q.Subset = "gone"
	if in, _, err := cat.Pick(q); err == nil {
		t.Errorf("a subset that isn't there any more led to %s", in.Node)
	}
}

// TestMixed: connections are split only where two subsets can serve a port.
func TestMixed(t *testing.T) {
	rules := resolver.Rules{Service: "db", Split: map[identity.Name]int{"v1": 1, "v2": 1, "v3": 0},
		Subsets: map[identity.Name]resolver.Subset{"v1": {Tag: "v1"}, "v2": {Tag: "v2"}, "v3": {Tag: "v3"}}}
	for text, want := range map[string]bool{
		"db@a:1/v1 db@b:1/v2":  true,
		"db@a:1/v1 db@b:1/v2!": false,
		"db@a:1/v1 db@b:2/v2":  false,
		"db@a:1/v1 db@b:1/v3":  false,
		"db@a:1/v1 db@b:1":     false,
	} {
		cat := New("here", ruled{runs(text), []resolver.Rules{rules}}, func(identity.Name) bool { return true })
		if got := cat.Mixed("db", 1); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestPolicyDigest: the digest of a policy tells different rules apart, and is what it
// was where there are none.
func TestPolicyDigest(t *testing.T) {
	seen := map[string]bool{}
	for _, rules := range [][]resolver.Rules{nil, {{Service: "db", Failover: []identity.Name{"a"}}}, {{Service: "db", Failover: []identity.Name{"b"}}}} {
		got := New("here", ruled{rules: rules}, nil).PolicyDigest("0123456789abcdef")
		if seen[got] || len(got) != 16 || (rules == nil) != (got == "0123456789abcdef") {
			t.Errorf("%v: %s", rules, got)
		}
		seen[got] = true
	}
}

// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"errors"
	"testing"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
)

type records []statement.Instance

func (r records) Instances() []statement.Instance { return r }

func (records) Resolvers() []resolver.Rules { return nil }

// Vouched: an operator has vouched for everything but what says otherwise.
func (r records) Vouched(node, service identity.Name) (out []string) {
	for _, in := range r {
		if in.Node == node && in.Service == service && in.Outside != nil && in.Meta["vouched"] != "no" {
			out = append(append(out, in.Outside.Hosts...), in.Outside.Addresses...)
		}
	}
	return out
}

func (r records) Node(n identity.Name) (statement.Node, bool) {
	addr := map[identity.Name]string{"here": "10.0.0.1", "there": "10.0.0.2", "far": "10.0.0.3"}[n]
	return statement.Node{Node: n, Address: addr, LanePort: 7947}, addr != ""
}

func mesh(alive ...identity.Name) *Catalog {
	return New("here", records{
		{Node: "there", Service: "db", ID: "db", Port: 5432},
		{Node: "far", Service: "db", ID: "db", Port: 5432},
		{Node: "far", Service: "db", ID: "db-admin", Port: 9000},
		{Node: "there", Service: "log", ID: "log", Port: 514, Down: statement.DownListener},
		{Node: "far", Service: "log", ID: "log", Port: 514},
		{Node: "here", Service: "log", ID: "log", Port: 514, Down: "check disk"},
		{Node: "there", Service: "web", ID: "web", Port: 8080},
		{Node: "here", Service: "web", ID: "web", Port: 8080},
		{Node: "here", Service: "job", ID: "job"},
		{Node: "nowhere", Service: "lost", ID: "lost", Port: 1},
	}, func(n identity.Name) bool {
		for _, a := range alive {
			if a == n {
				return true
			}
		}
		return false
	})
}

// TestPick: an instance on this node first, else on a live node, else a refusal.
func TestPick(t *testing.T) {
	for name, c := range map[string]struct {
		service identity.Name
		port    uint16
		alive   []identity.Name
		node    identity.Name
		reason  policy.Reason
	}{
		"here wins":                   {"web", 8080, []identity.Name{"there"}, "here", ""},
		"80 is the only port":         {"web", 80, nil, "here", ""},
		"443 too":                     {"web", 443, nil, "here", ""},
		"no such port":                {"web", 22, nil, "", policy.ReasonPort},
		"two ports have no default":   {"db", 80, []identity.Name{"there"}, "", policy.ReasonPort},
		"the node that answers":       {"db", 5432, []identity.Name{"far"}, "far", ""},
		"the instance that can serve": {"log", 514, []identity.Name{"there", "far"}, "far", ""},
		"no instance can serve":       {"log", 514, []identity.Name{"there"}, "", policy.ReasonInstance},
		"no instance, wrong port":     {"log", 22, []identity.Name{"there"}, "", policy.ReasonPort},
		"no node answers":             {"db", 5432, nil, "", policy.ReasonInstance},
		"a client can't be called":    {"job", 80, nil, "", policy.ReasonInstance},
		"its node has no address":     {"lost", 1, nil, "", policy.ReasonInstance},
		"a service that isn't there":  {"ghost", 80, nil, "", policy.ReasonInstance},
	} {
		t.Run(name, func(t *testing.T) {
			in, _, err := mesh(c.alive...).Pick(call(c.service, c.port))
			var refusal *policy.Refusal
			if c.reason == "" && (err != nil || in.Node != c.node) {
				t.Errorf("got %s, %v; want %s", in.Node, err, c.node)
			}
			if c.reason != "" && (!errors.As(err, &refusal) || refusal.Reason != c.reason) {
				t.Errorf("got %v, want a refusal for %s", err, c.reason)
			}
		})
	}
}

// TestDigest: services and ports count; who is alive and who only calls doesn't.
func TestDigest(t *testing.T) {
	whole := mesh().Digest()
	if mesh("there", "far").Digest() != whole {
		t.Error("it depends on who is alive")
	}
	of := func(port uint16, more ...statement.Instance) string {
		return New("here", append(records{{Node: "there", Service: "db", ID: "db", Port: port}}, more...), func(identity.Name) bool { return true }).Digest()
	}
	if of(1) == of(2) || of(1) == whole {
		t.Error("other ports or services give the same digest")
	}
	if of(1) != of(1, statement.Instance{Node: "far", Service: "job", ID: "job"}, statement.Instance{Node: "far", Service: "db", ID: "db", Port: 1}) {
		t.Error("a client, or another instance with the same port, gives another digest")
	}
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/records"
	"tacit/policy/ledger"
	"tacit/tproxy"
)

// ruleLine is a rule as one line, with its precedence.
func ruleLine(r *api.Rule) string {
	if r == nil {
		return "no rule"
	}
	out := fmt.Sprintf("%s %s>%s (%d)", r.Action, r.Source, r.Destination, r.Precedence)
	if r.Conflict {
		out += " conflict"
	}
	return out
}

func verdictLine(v api.Verdict) string {
	return fmt.Sprintf("allowed %v, %s, by %s", v.Allowed, v.Reason, ruleLine(v.Rule))
}

// TestIntentionList is in order of precedence. Two operators who said different
// things at once are a conflict, and deny wins.
func TestIntentionList(t *testing.T) {
	f := newFixture(t)
	other := f.operator(t, "host2")
	elsewhere := ledger.New("mesh.test", f.Member.Bundle.Fingerprint())
	elsewhere.Merge(f.records.View().Records())
	said := intention("deny web cache")
	rec, err := elsewhere.Sign(other, said.Kind, said.Key, said.Body, false)
	if err != nil {
		t.Fatal(err)
	}
	f.intend(t, "allow * *", "deny web *", "allow web db", "allow * db", "allow web cache")
	f.records.Take([]ledger.Record{rec})
	f.loop.Settle()
	list, err := f.Intentions.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list.Rules {
		got = append(got, ruleLine(&r))
	}
	differs(t, "list", strings.Join(got, "\n"), `deny web>cache (9) conflict
allow web>db (9)
allow *>db (8)
deny web>* (6)
allow *>* (5)`)
	if list.Default.String() != "deny" {
		t.Errorf("the default is %s", list.Default)
	}
}

func TestIntentionCheck(t *testing.T) {
	f := newFixture(t)
	f.intend(t, "allow web db", "deny * cache")
	for pair, want := range map[[2]identity.Name]string{
		{"web", "db"}:    "allowed true, allowed, by allow web>db (9)",
		{"web", "cache"}: "allowed false, intention, by deny *>cache (8)",
		{"db", "web"}:    "allowed false, default, by no rule",
	} {
		v, err := f.Intentions.Check(t.Context(), pair[0], pair[1])
		if err != nil {
			t.Fatal(err)
		}
		differs(t, fmt.Sprint(pair), verdictLine(*v), want)
	}
}

// TestIntentionExplain: the rule that decides, those that don't, which nodes
// have it in force, what is open by it here, and names that may be misspelt.
func TestIntentionExplain(t *testing.T) {
	f := newFixture(t)
	f.runs(t, "host2", f.admit(t, "host2", "10.0.0.2"), "db", 5432)
	f.admit(t, "host3", "")
	f.proxy.flows = []tproxy.Flow{
		{Source: "web", Destination: "db", Node: "host2", Direction: tproxy.DirectionOut, Port: 5432, Sent: 3},
		{Source: "web", Destination: "cache"}, {Source: "cache", Destination: "db"},
	}
	f.intend(t, "deny * *", "allow web db", "deny * db", "allow web cache")
	f.records.revisions["host2"] = f.loop.InForce()
	f.records.revisions["host3"] = "another"
	e, err := f.Intentions.Explain(t.Context(), "web", "db")
	if err != nil {
		t.Fatal(err)
	}
	var losers, nodes []string
	for _, r := range e.Losers {
		losers = append(losers, ruleLine(&r))
	}
	for _, n := range e.Nodes {
		nodes = append(nodes, fmt.Sprintf("%s in force %v, alive %v", n.Name, n.InForce, n.Alive))
	}
	differs(t, "winner", ruleLine(e.Winner), "allow web>db (9)")
	differs(t, "losers", strings.Join(losers, "\n"), "deny *>db (8)\ndeny *>* (5)")
	differs(t, "verdict", verdictLine(e.Verdict), "allowed true, allowed, by allow web>db (9)")
	differs(t, "nodes", strings.Join(nodes, "\n"), `host1 in force true, alive true
host2 in force true, alive true
host3 in force false, alive false`)
	if len(e.Live) != 1 || e.Live[0].Node != "host2" || e.Live[0].Sent != 3 || e.Live[0].Direction != "out" {
		t.Errorf("live: %+v", e.Live)
	}
	if e.Why != "The intention allow web -> db decides: it names both services. 2 less specific intentions match too, and lose." || e.Digest != f.loop.InForce() {
		t.Errorf("why %q, digest %s", e.Why, e.Digest)
	}
	for pair, want := range map[[2]identity.Name][]identity.Name{
		{"web", "db"}:  {"web"},
		{"db", "db"}:   nil,
		{"web", "wed"}: {"web", "wed"},
		{"web", "web"}: {"web"},
	} {
		if e, err := f.Intentions.Explain(t.Context(), pair[0], pair[1]); err != nil || !slices.Equal(e.Unknown, want) {
			t.Errorf("%v: unknown %v, %v; want %v", pair, e.Unknown, err, want)
		}
	}
	e, err = f.Intentions.Explain(t.Context(), "db", "other")
	if err != nil || ruleLine(e.Winner) != "deny *>* (5)" || e.Losers != nil || e.Live != nil {
		t.Errorf("db>other: %+v, %v", e, err)
	}
}

// TestIntentionChange begins with allow web>db and deny *>cache, and with two
// live connections, web>db and db>web.
func TestIntentionChange(t *testing.T) {
	change := func(action api.Change, src, dst identity.Name) api.IntentionChange {
		return api.IntentionChange{Action: action, Source: src, Destination: dst}
	}
	dry := func(r api.IntentionChange) api.IntentionChange { r.DryRun = true; return r }
	for name, c := range map[string]struct {
		change   api.IntentionChange
		noKey    bool
		applied  bool
		signs    int
		after    string
		affected int // db>web is allowed by no rule, and counts always
		warns    string
		says     string
	}{
		"deny cuts": {change: change(api.ChangeDeny, "web", "db"), applied: true, signs: 1, affected: 2,
			after: "allowed false, intention, by deny web>db (9)", warns: "no instance of web is known yet"},
		"delete cuts, too": {change: change(api.ChangeDelete, "web", "db"), applied: true, signs: 1, affected: 2,
			after: "allowed false, default, by no rule", warns: "no instance of web is known yet"},
		"allow": {change: change(api.ChangeAllow, "db", "web"), applied: true, signs: 1,
			after: "allowed true, allowed, by allow db>web (9)", warns: "no instance of web is known yet"},
		"allow everybody": {change: change(api.ChangeAllow, "*", "db"), applied: true, signs: 1, affected: 1,
			after: "allowed true, allowed, by allow *>db (8)"},
		"deny everything": {change: change(api.ChangeDeny, "*", "*"), applied: true, signs: 1, affected: 1,
			after: "allowed false, intention, by deny *>* (5)"},
		"what is so already": {change: change(api.ChangeAllow, "web", "db"), signs: 1, affected: 1,
			after: "allowed true, allowed, by allow web>db (9)", warns: "no instance of web is known yet"},
		"a name twice": {change: change(api.ChangeAllow, "wed", "wed"), applied: true, signs: 1, affected: 1,
			after: "allowed true, allowed, by allow wed>wed (9)", warns: "no instance of wed is known yet"},
		"a dry run changes nothing": {change: dry(change(api.ChangeDeny, "web", "db")), affected: 2,
			after: "allowed false, intention, by deny web>db (9)", warns: "no instance of web is known yet"},
		"a dry run without an operator key": {change: dry(change(api.ChangeDeny, "web", "db")), noKey: true, affected: 2,
			after: "allowed false, intention, by deny web>db (9)", warns: "no instance of web is known yet"},
		"no operator key": {change: change(api.ChangeDeny, "web", "db"), noKey: true,
			says: "1: changing an intention needs an operator key, and this node (host1) holds none [run the same command on a node that does] on host1"},
		"delete what isn't there": {change: change(api.ChangeDelete, "db", "web"),
			says: "1: there is no intention db -> web [tacit intention list shows those there are]"},
		"delete what only a wider rule says": {change: change(api.ChangeDelete, "web", "cache"),
			says: "1: there is no intention web -> cache [tacit intention list shows those there are]"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.runs(t, "host2", f.admit(t, "host2", "10.0.0.2"), "db", 5432)
			f.intend(t, "allow web db", "deny * cache")
			f.proxy.flows = []tproxy.Flow{{Source: "web", Destination: "db"}, {Source: "db", Destination: "web"}}
			if c.noKey {
				f.Member.Operator = nil
			}
			digest, signed := f.loop.InForce(), f.records.signed
			out, err := f.Intentions.Change(t.Context(), c.change)
			if c.says != "" {
				differs(t, "answer", says(err), c.says)
			} else if err != nil {
				t.Fatal(err)
			} else {
				differs(t, "after", verdictLine(out.After), c.after)
				differs(t, "warnings", strings.Join(out.Warnings, "\n"), c.warns)
				if out.Applied != c.applied || out.LiveAffected != c.affected {
					t.Errorf("applied %v, want %v; %d live connections affected, want %d", out.Applied, c.applied, out.LiveAffected, c.affected)
				}
			}
			if n := f.records.signed - signed; n != c.signs {
				t.Errorf("%d records signed, want %d", n, c.signs)
			}
			if changed := f.loop.InForce() != digest; changed != c.applied {
				t.Errorf("the policy in force has changed: %v, want %v", changed, c.applied)
			}
		})
	}
}

// TestIntentionDescription: a new description alone is signed, though no verdict changes.
func TestIntentionDescription(t *testing.T) {
	f := newFixture(t)
	f.intend(t, "allow web db")
	out, err := f.Intentions.Change(t.Context(), api.IntentionChange{Source: "web", Destination: "db", Action: api.ChangeAllow, Description: "orders"})
	if err != nil || out.Applied {
		t.Errorf("%+v, %v", out, err)
	}
	if list, err := f.Intentions.List(t.Context()); err != nil || list.Rules[0].Description != "orders" {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestIntentionWait: host2 follows after a while or never; host3 is down and never
// follows. It counts, unless the caller wants those alone that answer, and is named in
// any case.
func TestIntentionWait(t *testing.T) {
	const never = 0
	const tick = 2 * time.Millisecond
	for name, c := range map[string]struct {
		lag, timeout, gone time.Duration // gone: when the caller goes away
		wait, live         bool
		elapsed            time.Duration
		inForce, of        int
		waiting            []string
	}{
		"host2 follows":        {lag: 3 * time.Second, wait: true, live: true, elapsed: 3 * time.Second, inForce: 2, of: 2},
		"host3 doesn't":        {lag: 3 * time.Second, wait: true, elapsed: api.DefaultWait, inForce: 2, of: 3, waiting: []string{"host3"}},
		"without wait":         {lag: 3 * time.Second, inForce: 1, of: 3, waiting: []string{"host2", "host3"}},
		"host2 never follows":  {lag: never, wait: true, live: true, elapsed: api.DefaultWait, inForce: 1, of: 2, waiting: []string{"host2"}},
		"a shorter timeout":    {lag: 3 * time.Second, timeout: time.Second, wait: true, live: true, elapsed: time.Second, inForce: 1, of: 2, waiting: []string{"host2"}},
		"the caller goes away": {lag: 3 * time.Second, gone: 2 * time.Second, wait: true, elapsed: 2 * time.Second, inForce: 1, of: 3, waiting: []string{"host2", "host3"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			f.admit(t, "host2", "10.0.0.2")
			f.admit(t, "host3", "")
			said := &lagging{said: f.records}
			f.Config.Records = said
			if c.lag != never {
				said.at, said.digest = time.Now().Add(c.lag), f.loop.InForce
			}
			ctx := t.Context()
			if c.gone > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.gone)
				defer cancel()
			}
			out, err := New(f.Config).Intentions.Change(ctx, api.IntentionChange{Source: "web", Destination: "db", Action: api.ChangeAllow, Wait: c.wait, Live: c.live, Timeout: c.timeout})
			if err != nil {
				t.Fatal(err)
			}
			if out.InForce != c.inForce || out.Nodes != c.of || !slices.Equal(out.Waiting, c.waiting) {
				t.Errorf("%s: in force on %d of %d nodes, waiting for %v", name, out.InForce, out.Nodes, out.Waiting)
			}
			if u := out.Unreached; len(u) != 1 || u[0] != (api.Unreached{Name: "host3", Since: time.Unix(1000, 0)}) {
				t.Errorf("%s: unreached %+v", name, u)
			}
			if late := out.Elapsed - c.elapsed; late < -tick || late > 2*tick {
				t.Errorf("%s: took %s, want %s", name, out.Elapsed, c.elapsed)
			}
		})
	}
}

// lagging is host2, which says from a moment on that it has the present policy.
type lagging struct {
	*said
	at     time.Time
	digest func() string
}

func (l *lagging) Revisions() map[identity.Name]records.Revision {
	out := l.said.Revisions()
	if !l.at.IsZero() && !time.Now().Before(l.at) {
		out["host2"] = records.Revision{Digest: l.digest()}
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tacit/identity"
	"tacit/node/definition/suggest"
	"tacit/policy"
)

// Query says which connections somebody asks for: those that meet all of it. The zero
// value asks for everything.
type Query struct {
	After       uint64 // Seq of the last record that the caller has
	Service     Name   // source, destination, or the service that was called
	Source      Name
	Destination Name          // also the service that was called, where another one stands in for it
	Node        Name          // the other node
	Verdict     string        // Allowed or Refused
	Reasons     []Reason      // one of them
	Since       time.Duration // of live ones: they began within it; of others: they ended or were refused
	Live        string        // LiveOnly or LiveNot
}

// Values of Query.Live.
const (
	LiveOnly = "only"
	LiveNot  = "no"
)

// Parse reads a query from the parameters that Values makes.
func Parse(v url.Values) (q Query, err error) {
	q = Query{Service: Name(v.Get("service")), Source: Name(v.Get("source")), Destination: Name(v.Get("destination")), Node: Name(v.Get("node")),
		Verdict: v.Get("verdict"), Live: v.Get("live")}
	for _, r := range v["reason"] {
		q.Reasons = append(q.Reasons, Reason(r))
	}
	if text := v.Get("after"); text != "" {
		if q.After, err = strconv.ParseUint(text, 10, 64); err != nil {
			return q, fmt.Errorf("after %.40q: must be a number", text)
		}
	}
	if text := v.Get("since"); text != "" {
		if q.Since, err = time.ParseDuration(text); err != nil {
			return q, fmt.Errorf("since %.40q: must be a duration, such as 30s, 15m or 1h", text)
		}
	}
	return q, q.Check()
}

// Values are the query as parameters of a request.
func (q Query) Values() url.Values {
	v := url.Values{}
	for key, text := range map[string]string{"service": string(q.Service), "source": string(q.Source), "destination": string(q.Destination),
		"node": string(q.Node), "verdict": q.Verdict, "live": q.Live} {
		if text != "" {
			v.Set(key, text)
		}
	}
	for _, r := range q.Reasons {
		v.Add("reason", string(r))
	}
	if q.After > 0 {
		v.Set("after", strconv.FormatUint(q.After, 10))
	}
	if q.Since > 0 {
		v.Set("since", q.Since.String())
	}
	return v
}

// Check says what is wrong with a query, and puts its names in lower case.
func (q *Query) Check() error {
	for _, name := range []struct {
		what  string
		value *Name
		parse func(string) (Name, error)
	}{{"service", &q.Service, identity.ParseSource}, {"source", &q.Source, identity.ParseSource}, {"destination", &q.Destination, identity.ParseSource}, {"node", &q.Node, identity.ParseName}} {
		if *name.value == "" {
			continue
		}
		folded, err := name.parse(string(*name.value))
		if err != nil {
			return fmt.Errorf("%s: %w", name.what, err)
		}
		*name.value = folded
	}
	if q.Since < 0 {
		return fmt.Errorf("since %s: must not be negative", q.Since)
	}
	if !slices.Contains([]string{"", LiveOnly, LiveNot}, q.Live) {
		return fmt.Errorf("live %.40q: must be %s or %s", q.Live, LiveOnly, LiveNot)
	}
	if !slices.Contains([]string{"", Allowed, Refused}, q.Verdict) {
		return fmt.Errorf("verdict %.40q: must be %s or %s", q.Verdict, Allowed, Refused)
	}
	return q.checkReasons()
}

// Reasons are all reasons that a record can have, sorted.
func Reasons() []string {
	var out []string
	for _, r := range policy.Reasons() {
		out = append(out, string(r))
	}
	slices.Sort(out)
	return out
}

// checkReasons names all reasons where one is unknown, and first the one that was meant.
func (q *Query) checkReasons() error {
	known := Reasons()
	for _, r := range q.Reasons {
		if slices.Contains(known, string(r)) {
			continue
		}
		all := "known are " + strings.Join(known, ", ")
		if meant := suggest.Instead(string(r), slices.Values(known)); meant != all {
			all = meant + " " + all
		}
		return fmt.Errorf("reason %.40q: unknown; %s", string(r), all)
	}
	return nil
}

// Match says whether a record is asked for. Its number isn't looked at.
func (q *Query) Match(now time.Time, r *Record) bool {
	switch {
	case q.Live == LiveOnly && !r.Live || q.Live == LiveNot && r.Live,
		q.Service != "" && q.Service != r.Source && q.Service != r.Destination && q.Service != r.For,
		q.Source != "" && q.Source != r.Source,
		q.Destination != "" && q.Destination != r.Destination && q.Destination != r.For,
		q.Node != "" && q.Node != r.Node,
		q.Since > 0 && r.last().Before(now.Add(-q.Since)),
		len(q.Reasons) > 0 && (r.Live || !slices.Contains(q.Reasons, r.Reason)):
		return false
	}
	return q.Verdict == "" || q.Verdict == VerdictOf(r.Direction, r.Reason)
}

// last is when the last thing happened to a connection: it began, ended or was refused.
func (r *Record) last() time.Time {
	if r.Live {
		return r.Time
	}
	return r.Time.Add(r.Duration)
}

// Select keeps those records that are asked for, and sets their verdicts.
func (q *Query) Select(now time.Time, all []Record) []Record {
	out := all[:0]
	for i := range all {
		if r := &all[i]; q.Match(now, r) {
			r.Verdict = VerdictOf(r.Direction, r.Reason)
			out = append(out, *r)
		}
	}
	return out
}

// Missed is how many records a caller who has those up to Seq after lacks before the
// first of all, which are the next that the node holds.
func Missed(after uint64, all []Record) uint64 {
	if after == 0 || len(all) == 0 || all[0].Seq <= after+1 {
		return 0
	}
	return all[0].Seq - after - 1
}

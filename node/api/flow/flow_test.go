// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"tacit/policy"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// TestQuery: which of some connections each part of a query asks for.
func TestQuery(t *testing.T) {
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	all := []Record{
		{Seq: 1, Source: "web", Destination: "db", Direction: "out", Node: "host2", Reason: "closed", Time: ago(time.Hour), Duration: 59 * time.Minute},
		{Seq: 2, Source: "web", Destination: "db-2", For: "db", Direction: "in", Node: "host3", Reason: "changed", Time: ago(time.Hour)},
		{Seq: 3, Source: "ingress/front", Destination: "web", Direction: Hook, Reason: "default", Time: ago(time.Minute)},
		{Seq: 4, Source: "web", Destination: "api", Direction: Direct, Reason: "dial", Time: ago(time.Hour), Duration: time.Minute},
		{Seq: 5, Direction: Hook, Reason: "late", Time: ago(time.Minute)},
		{Seq: 6, Source: "db", Destination: "api", Direction: "out", Node: "host2", Reason: "lane", Time: ago(time.Second)},
		{Seq: 7, Source: "web", Destination: "db", Direction: "local", Live: true, Time: ago(2 * time.Hour)},
		{Seq: 8, Source: "api", Destination: "db", Direction: "in", Node: "host2", Live: true, Time: ago(time.Second)},
	}
	for _, c := range []struct {
		q    Query
		want string
	}{
		{Query{}, "1 2 3 4 5 6 7 8"},
		{Query{Service: "db"}, "1 2 6 7 8"},
		{Query{Service: "web"}, "1 2 3 4 7"},
		{Query{Service: "Ingress/Front"}, "3"},
		{Query{Source: "db"}, "6"},
		{Query{Source: "WEB", Destination: "db"}, "1 2 7"},
		{Query{Destination: "db-2"}, "2"},
		{Query{Node: "host2"}, "1 6 8"},
		{Query{Verdict: Allowed}, "1 2 4 7 8"},
		{Query{Verdict: Refused}, "3 6"},
		{Query{Reasons: []Reason{"closed", "late"}}, "1 5"},
		{Query{Since: 2 * time.Minute}, "1 3 5 6 8"},
		{Query{Since: 2 * time.Minute, Live: LiveOnly}, "8"},
		{Query{Live: LiveOnly}, "7 8"},
		{Query{Live: LiveNot, Service: "db"}, "1 2 6"},
		{Query{Service: "db", Verdict: Refused, Node: "host2", Reasons: []Reason{"lane"}, Since: time.Minute}, "6"},
		{Query{Service: "nobody"}, ""},
	} {
		q, err := Parse(c.q.Values())
		if err != nil {
			t.Errorf("%+v: %v", c.q, err)
			continue
		}
		var got []string
		for _, r := range q.Select(noon, append([]Record(nil), all...)) {
			if got = append(got, fmt.Sprint(r.Seq)); r.Verdict == "" {
				t.Errorf("record %d has no verdict", r.Seq)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %s, want %s", c.q, strings.Join(got, " "), c.want)
		}
	}
}

// TestQueryTravels: a query arrives as it was sent.
func TestQueryTravels(t *testing.T) {
	want := Query{After: 7, Service: "a", Source: "ingress/b", Destination: "c", Node: "d", Verdict: Refused, Reasons: []Reason{"udp", "port"}, Since: 90 * time.Second, Live: LiveNot}
	if got, err := Parse(want.Values()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// TestBadQuery: every error names the parameter and what it may be.
func TestBadQuery(t *testing.T) {
	known := "known are allowed, authority, changed, "
	for text, want := range map[string]string{
		"after=x":                    `after "x": must be a number`,
		"after=-1":                   `after "-1": must be a number`,
		"since=x":                    `since "x": must be a duration, such as 30s, 15m or 1h`,
		"since=-1s":                  `since -1s: must not be negative`,
		"live=maybe":                 `live "maybe": must be only or no`,
		"verdict=denied":             `verdict "denied": must be allowed or refused`,
		"service=a.b":                `service: `,
		"node=ingress/a":             `node: `,
		"reason=reset&reason=defalt": `reason "defalt": unknown; did you mean default? ` + known,
		"reason=zzzzzzzz":            `reason "zzzzzzzz": unknown; ` + known,
		"reason=":                    `reason "": unknown; ` + known,
	} {
		v, err := url.ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(v); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// TestVerdictOf: every reason has one verdict for connections that the proxy or a hook
// reports, and none but the following doesn't refuse.
func TestVerdictOf(t *testing.T) {
	want := map[Reason]string{"late": NoVerdict, "": Allowed}
	for _, r := range []Reason{"allowed", "self", "permissive", "changed", "closed", "reset", "idle", "drain"} {
		want[r] = Allowed
	}
	for _, r := range append(policy.Reasons(), "") {
		if want[r] == "" {
			want[r] = Refused
		}
		if got := VerdictOf("out", r); got != want[r] {
			t.Errorf("%q: %s, want %s", r, got, want[r])
		}
	}
}

// TestMissed: only what was there once and isn't any more is missed.
func TestMissed(t *testing.T) {
	for _, c := range []struct{ after, first, want uint64 }{{0, 1025, 0}, {7, 8, 0}, {7, 9, 1}, {7, 1025, 1017}, {7, 0, 0}} {
		var all []Record
		if c.first > 0 {
			all = []Record{{Seq: c.first}}
		}
		if got := Missed(c.after, all); got != c.want {
			t.Errorf("after %d, from %d: %d, want %d", c.after, c.first, got, c.want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tacit/identity"
	"tacit/policy"
)

func rule(text string) policy.Intention {
	f := strings.Fields(text)
	a, err := policy.ParseAction(f[0])
	if err != nil {
		panic(err)
	}
	return policy.Intention{Action: a, Source: identity.Name(f[1]), Destination: identity.Name(f[2])}
}

func rules(texts ...string) []policy.Intention {
	var out []policy.Intention
	for _, t := range texts {
		out = append(out, rule(t))
	}
	return out
}

// TestPrecedence compares with Consul's numbers within one namespace.
func TestPrecedence(t *testing.T) {
	for _, c := range []struct {
		rule string
		want int
	}{
		{"allow web db", 9}, {"allow * db", 8}, {"allow web *", 6}, {"allow * *", 5},
	} {
		if got := rule(c.rule).Precedence(); got != c.want {
			t.Errorf("%s: precedence %d, want %d", c.rule, got, c.want)
		}
	}
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name    string
		def     policy.Action
		rules   []policy.Intention
		src     identity.Name
		dst     identity.Name
		allowed bool
		reason  policy.Reason
		rule    string
	}{
		{"no rule, default deny", policy.Deny, nil, "web", "db", false, policy.ReasonDefault, ""},
		{"no rule, default allow", policy.Allow, nil, "web", "db", true, policy.ReasonAllowed, ""},
		{"the zero default denies", 0, nil, "web", "db", false, policy.ReasonDefault, ""},
		{"exact", policy.Deny, rules("allow web db"), "web", "db", true, policy.ReasonAllowed, "allow web>db"},
		{"direction matters", policy.Deny, rules("allow web db"), "db", "web", false, policy.ReasonDefault, ""},
		{"exact beats any source", policy.Deny, rules("allow web db", "deny * db"), "web", "db", true, policy.ReasonAllowed, "allow web>db"},
		{"exact beats any destination", policy.Deny, rules("allow web db", "deny web *"), "web", "db", true, policy.ReasonAllowed, "allow web>db"},
		{"destination match outranks source match: deny", policy.Deny, rules("deny * db", "allow web *"), "web", "db", false, policy.ReasonIntention, "deny *>db"},
		{"destination match outranks source match: allow", policy.Deny, rules("allow * db", "deny web *"), "web", "db", true, policy.ReasonAllowed, "allow *>db"},
		{"source match beats both any", policy.Deny, rules("deny web *", "allow * *"), "web", "db", false, policy.ReasonIntention, "deny web>*"},
		{"both any", policy.Deny, rules("allow * *"), "web", "db", true, policy.ReasonAllowed, "allow *>*"},
		{"rule beats default allow", policy.Allow, rules("deny * *"), "web", "db", false, policy.ReasonIntention, "deny *>*"},
		{"equal weight: deny wins", policy.Deny, rules("allow web db", "deny web db"), "web", "db", false, policy.ReasonIntention, "deny web>db"},
		{"equal weight: deny wins, other order", policy.Deny, rules("deny web db", "allow web db"), "web", "db", false, policy.ReasonIntention, "deny web>db"},
		{"a rule without an action denies", policy.Allow, []policy.Intention{{Source: "web", Destination: "db"}}, "web", "db", false, policy.ReasonIntention, "deny web>db"},
		{"an ingress that a rule names", policy.Deny, rules("allow ingress/a db"), "ingress/a", "db", true, policy.ReasonAllowed, "allow ingress/a>db"},
		{"exact beats any source, for an ingress", policy.Deny, rules("allow ingress/a db", "deny * db"), "ingress/a", "db", true, policy.ReasonAllowed, "allow ingress/a>db"},
		{"any source lets no ingress in", policy.Deny, rules("allow * db", "allow * *"), "ingress/a", "db", false, policy.ReasonDefault, ""},
		{"any source denies an ingress", policy.Deny, rules("deny * db", "allow ingress/a *"), "ingress/a", "db", false, policy.ReasonIntention, "deny *>db"},
		{"an ingress that a rule names for all", policy.Deny, rules("allow * db", "allow ingress/a *"), "ingress/a", "db", true, policy.ReasonAllowed, "allow ingress/a>*"},
		{"another ingress", policy.Deny, rules("allow ingress/b db"), "ingress/a", "db", false, policy.ReasonDefault, ""},
		{"a service with an ingress's label", policy.Deny, rules("allow ingress/a db"), "a", "db", false, policy.ReasonDefault, ""},
		{"the default lets no ingress in", policy.Allow, nil, "ingress/a", "db", false, policy.ReasonDefault, ""},
		{"no source", policy.Allow, rules("allow * *"), "", "db", false, policy.ReasonIdentity, ""},
		{"star is no service's name", policy.Allow, rules("allow * *"), "*", "db", false, policy.ReasonIdentity, ""},
		{"no destination", policy.Allow, rules("allow * *"), "web", "", false, policy.ReasonDestination, ""},
	} {
		d := policy.NewTable(c.def, c.rules).Decide(c.src, c.dst)
		var got string
		if d.Rule != nil {
			got = d.Rule.String()
		}
		if d.Allowed != c.allowed || d.Reason != c.reason || got != c.rule {
			t.Errorf("%s: %v %s %q, want %v %s %q", c.name, d.Allowed, d.Reason, got, c.allowed, c.reason, c.rule)
		}
		if (d.Err() == nil) != c.allowed {
			t.Errorf("%s: Err %v", c.name, d.Err())
		}
	}
}

// TestDecideIsFirstOfList: on random tables, the four lookups of Decide find the
// first matching rule of List.
func TestDecideIsFirstOfList(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	names := []identity.Name{"a", "b", "c", policy.Any, "ingress/a"}
	for range 500 {
		var in []policy.Intention
		for range r.IntN(12) {
			in = append(in, policy.Intention{Source: names[r.IntN(5)], Destination: names[r.IntN(4)], Action: policy.Action(1 + r.IntN(2))})
		}
		table := policy.NewTable(policy.Deny, in)
		shuffled := slices.Clone(in)
		r.Shuffle(len(in), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if again := policy.NewTable(policy.Deny, shuffled); again.Digest() != table.Digest() {
			t.Fatalf("digest depends on order: %v", in)
		}
		for _, src := range []identity.Name{"a", "b", "c", "ingress/a"} {
			for _, dst := range names[:3] {
				compareWithList(t, table, src, dst)
			}
		}
	}
}

func compareWithList(t *testing.T, table *policy.Table, src, dst identity.Name) {
	t.Helper()
	var matching []policy.Intention
	for _, i := range table.List() {
		if i.Source == policy.Any && i.Action == policy.Allow && src == "ingress/a" {
			continue
		}
		if (i.Source == src || i.Source == policy.Any) && (i.Destination == dst || i.Destination == policy.Any) {
			matching = append(matching, i)
		}
	}
	d := table.Decide(src, dst)
	if got := table.Explain(src, dst); !slices.Equal(got, matching) {
		t.Fatalf("%s>%s: Explain %v, by List %v", src, dst, got, matching)
	}
	if len(matching) == 0 {
		if d.Rule != nil || d.Allowed {
			t.Fatalf("%s>%s: %+v without a rule", src, dst, d)
		}
		return
	}
	if d.Rule == nil || *d.Rule != matching[0] || d.Allowed != (matching[0].Action == policy.Allow) {
		t.Fatalf("%s>%s: %+v, want %v", src, dst, d, matching[0])
	}
}

func TestDigest(t *testing.T) {
	base := policy.NewTable(policy.Deny, rules("allow web db")).Digest()
	described := rule("allow web db")
	described.Description = "why"
	if got := policy.NewTable(policy.Deny, []policy.Intention{described}).Digest(); got != base {
		t.Error("a description changes the digest")
	}
	for _, other := range []*policy.Table{
		policy.NewTable(policy.Allow, rules("allow web db")),
		policy.NewTable(policy.Deny, rules("deny web db")),
		policy.NewTable(policy.Deny, rules("allow db web")),
		policy.NewTable(policy.Deny, nil),
	} {
		if len(other.Digest()) != 16 || other.Digest() == base {
			t.Errorf("digest %s of another policy", other.Digest())
		}
	}
}

func TestParseEnds(t *testing.T) {
	for _, c := range []struct{ in, source, destination string }{
		{"web", "web", "web"}, {"WEB-1", "web-1", "web-1"}, {"*", "*", "*"}, {"ingress/A", "ingress/a", ""},
		{"web-*", "", ""}, {"**", "", ""}, {"*.mesh", "", ""}, {"", "", ""}, {" *", "", ""}, {"a b", "", ""}, {"web>db", "", ""}, {"ingress/*", "", ""},
	} {
		source, err1 := policy.ParseSource(c.in)
		destination, err2 := policy.ParseDestination(c.in)
		if string(source) != c.source || string(destination) != c.destination {
			t.Errorf("%q is the source %q and the destination %q", c.in, source, destination)
		}
		for got, err := range map[identity.Name]error{source + " as source": err1, destination + " as destination": err2} {
			if (err == nil) == strings.HasPrefix(string(got), " ") || err != nil && !errors.Is(err, policy.ErrEndpoint) {
				t.Errorf("%q: %q, %v", c.in, got, err)
			}
		}
	}
	if _, err := policy.ParseSource("web-*"); !strings.Contains(err.Error(), "stand alone") {
		t.Errorf("the error doesn't say what a star means: %v", err)
	}
	if _, err := policy.ParseDestination("ingress/a"); !strings.Contains(err.Error(), "source only") {
		t.Errorf("the error doesn't say what an ingress is: %v", err)
	}
}

func TestIntentionJSON(t *testing.T) {
	text := `{"source":"web","destination":"*","action":"deny","description":"x"}`
	var i policy.Intention
	if err := json.Unmarshal([]byte(text), &i); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(i); err != nil || string(again) != text {
		t.Errorf("%s, %v", again, err)
	}
	for _, bad := range []string{`{"action":"Allow"}`, `{"action":2}`, `{"action":""}`} {
		if err := json.Unmarshal([]byte(bad), &i); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
	if _, err := json.Marshal(policy.Intention{Source: "a", Destination: "b"}); err == nil {
		t.Error("an intention without an action was encoded")
	}
	for _, bad := range []policy.Intention{{}, {Source: "a", Destination: "b"}, rule("allow WEB db"), rule("allow web-* db")} {
		if bad.Validate() == nil {
			t.Errorf("%v is valid", bad)
		}
	}
}

func TestReasons(t *testing.T) {
	seen := map[policy.Reason]bool{}
	for _, r := range policy.Reasons() {
		if seen[r] || r == "" || strings.HasPrefix(r.Explain(), "Unknown") {
			t.Errorf("reason %q: repeated or unexplained", r)
		}
		seen[r] = true
	}
	err := error(&policy.Refusal{Reason: policy.ReasonPort, Detail: "db has no port 81"})
	if err.Error() != "refused: port: db has no port 81" {
		t.Error(err)
	}
	if !errors.Is(err, &policy.Refusal{Reason: policy.ReasonPort}) || errors.Is(err, &policy.Refusal{Reason: policy.ReasonUDP}) {
		t.Error("errors.Is doesn't compare reasons")
	}
}

func TestReasonOf(t *testing.T) {
	refused := policy.Refuse(policy.ReasonPort, "%s has no port %d", "db", 81)
	if refused.Error() != "refused: port: db has no port 81" {
		t.Error(refused)
	}
	for _, tc := range []struct {
		err  error
		want policy.Reason
	}{
		{refused, policy.ReasonPort},
		{fmt.Errorf("on a lane: %w", refused), policy.ReasonPort},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}, policy.ReasonLimit},
		{syscall.ENFILE, policy.ReasonLimit},
		{syscall.ENOMEM, policy.ReasonLimit},
		{syscall.ECONNREFUSED, policy.ReasonDial},
	} {
		if got := policy.ReasonOf(tc.err, policy.ReasonDial); got != tc.want {
			t.Errorf("%v: reason %q, want %q", tc.err, got, tc.want)
		}
	}
}

// BenchmarkLargeTable: what a node with 100,000 intentions does with each new
// table, and the digest that it asks for again and again.
func BenchmarkLargeTable(b *testing.B) {
	var in []policy.Intention
	for i := range 100_000 {
		in = append(in, policy.Intention{Source: identity.Name(fmt.Sprint("s", i/300)), Destination: identity.Name(fmt.Sprint("d", i%300)), Action: policy.Allow})
	}
	table := policy.NewTable(policy.Deny, in)
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			policy.NewTable(policy.Deny, in)
		}
	})
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			table.List()
		}
	})
	b.Run("digest", func(b *testing.B) {
		for b.Loop() {
			table.Digest()
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	table := policy.NewTable(policy.Deny, rules("allow * *"))
	for b.Loop() {
		table.Decide("web", "db")
	}
}

// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"tacit/bpf"
	"tacit/identity"
	"tacit/policy"
	"tacit/policy/kernel"
)

// TestDigestOfTheMaps: the digest is that of the policy in the maps, whatever the
// numbers are; the node's own rules and those about subsets don't count. It is the
// same after each change as when everything is read back.
func TestDigestOfTheMaps(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	n := newNumbers()
	k := newKernel(t, o, n)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	names := []identity.Name{"a", "b", "c", policy.Any, "ingress/a"}
	for range 50 {
		var rules []policy.Intention
		for range r.IntN(12) {
			rules = append(rules, policy.Intention{Source: names[r.IntN(5)], Destination: names[r.IntN(4)], Action: policy.Action(1 + r.IntN(2))})
		}
		s := kernel.State{Table: policy.NewTable(policy.Action(1+r.IntN(2)), rules), Aliases: []kernel.Alias{{Name: "v1.a", Service: "a"}},
			Own: []policy.Intention{{Source: "tacit/probe", Destination: "tacit/probe", Action: policy.Allow}}}
		if _, err := k.Apply(s); err != nil {
			t.Fatal(err)
		}
		if got := k.Revision(); got.Err != nil || got.Digest != s.Table.Digest() {
			t.Fatalf("%v: digest %s, %v; want %s", rules, got.Digest, got.Err, s.Table.Digest())
		}
		written := k.Revision().Digest
		if changed, err := k.Verify(); changed != nil || err != nil {
			t.Fatal(changed, err)
		}
		if again := newKernel(t, o, n).Revision().Digest; k.Revision().Digest != written || again != written {
			t.Fatalf("digest %s when written, %s and %s when read back", written, k.Revision().Digest, again)
		}
	}
}

// TestDigestOfTamperedMaps: what something else writes into the maps is in the digest
// from the next reading on, and out again once it is put right. The default is read
// each time.
func TestDigestOfTamperedMaps(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	n := newNumbers()
	k := newKernel(t, o, n)
	s := fullState()
	if _, err := k.Apply(s); err != nil {
		t.Fatal(err)
	}
	web, db := n.Number("web"), n.Number("db")
	for name, harm := range map[string]func() error{
		"a rule deleted":      func() error { return o.Intentions().Delete(bpf.Pair{Source: web, Destination: db}) },
		"a rule turned":       func() error { return o.Intentions().Put(bpf.Pair{Source: web, Destination: db}, false) },
		"a rule added":        func() error { return o.Intentions().Put(bpf.Pair{Source: bpf.Any, Destination: db}, true) },
		"a rule about nobody": func() error { return o.Intentions().Put(bpf.Pair{Source: 4711, Destination: db}, true) },
		"the default":         func() error { return o.SetDefault(true) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Verify(); err != nil {
			t.Fatal(err)
		}
		if k.Revision().Digest == s.Table.Digest() {
			t.Errorf("%s: the digest is the same", name)
		}
		if _, err := k.Apply(s); err != nil {
			t.Fatal(err)
		}
		if got := k.Revision().Digest; got != s.Table.Digest() {
			t.Errorf("%s: digest %s after it was put right", name, got)
		}
	}
}

// TestOverflowOfAddressesStopsNoRevision: real addresses for which there is no room
// are reported, and the policy is in force all the same. A policy that has no room
// isn't.
func TestOverflowOfAddressesStopsNoRevision(t *testing.T) {
	_, o := load(t, bpf.Limits{Intentions: 8})
	k := newKernel(t, o, newNumbers())
	s := fullState()
	for i := range int(o.Remotes().Capacity()) + 1 {
		s.Remotes = append(s.Remotes, kernel.Remote{Addr: netip.AddrPortFrom(nth(i), 80), Service: "db"})
	}
	if _, err := k.Apply(s); !errors.Is(err, bpf.ErrFull) {
		t.Errorf("Apply: %v, want ErrFull", err)
	}
	if got := k.Revision(); got.Err != nil || got.Digest != s.Table.Digest() {
		t.Errorf("revision %+v: the policy is in force", got)
	}
	var rules []policy.Intention
	for i := range 9 {
		rules = append(rules, policy.Intention{Source: "web", Destination: identity.Name(fmt.Sprint("db", i)), Action: policy.Allow})
	}
	s.Remotes, s.Table = nil, policy.NewTable(policy.Deny, rules)
	if _, err := k.Apply(s); !errors.Is(err, bpf.ErrFull) {
		t.Errorf("Apply: %v, want ErrFull", err)
	}
	if got := k.Revision(); !errors.Is(got.Err, bpf.ErrFull) || got.Digest != "" {
		t.Errorf("revision %+v: not all of the policy is in force", got)
	}
}

// TestDefaultAllowFullOfDenies: where a deny has no room and no allow can give way,
// the node refuses what no rule allows, instead of allowing what a rule denies. Once
// there is room, the default is what it was.
func TestDefaultAllowFullOfDenies(t *testing.T) {
	_, o := load(t, bpf.Limits{Intentions: 4})
	n := newNumbers()
	k := newKernel(t, o, n)
	var rules []policy.Intention
	for i := range 5 {
		rules = append(rules, policy.Intention{Source: identity.Name(fmt.Sprint("s", i)), Destination: "db", Action: policy.Deny})
	}
	verdicts := func() (allowed int) {
		for i := range 5 {
			got, err := o.Decide(bpf.Pair{Source: n.Number(identity.Name(fmt.Sprint("s", i))), Destination: n.Number("db")}, false)
			if err != nil {
				t.Fatal(err)
			}
			if got == bpf.Allowed {
				allowed++
			}
		}
		return allowed
	}
	for _, step := range []struct {
		rules   int
		full    bool
		allowed int
	}{{3, false, 2}, {5, true, 0}, {5, true, 0}, {4, false, 1}} {
		table := policy.NewTable(policy.Allow, rules[:step.rules]) // which four of five are in the map is chance: the last step exchanges some
		_, err := k.Apply(kernel.State{Table: table})
		if errors.Is(err, bpf.ErrFull) != step.full || (k.Revision().Err != nil) != step.full {
			t.Errorf("%d denies in a map for 4: %v, in force: %v", step.rules, err, k.Revision())
		}
		if got := verdicts(); got != step.allowed {
			t.Errorf("%d denies in a map for 4: %d of 5 callers are allowed, want %d", step.rules, got, step.allowed)
		}
	}
}

// TestDigestAfterARestart: the maps are read before the daemon's own callers have their
// numbers again; the digest is the same once they do.
func TestDigestAfterARestart(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	n := newNumbers()
	s := kernel.State{Table: policy.NewTable(policy.Deny, []policy.Intention{{Source: "a", Destination: "b", Action: policy.Allow}}),
		Own: []policy.Intention{{Source: "tacit/check", Destination: "b", Action: policy.Allow}}}
	k := newKernel(t, o, n)
	if _, err := k.Apply(s); err != nil {
		t.Fatal(err)
	}
	own := n.byName["tacit/check"]
	delete(n.byNum, own)
	again := newKernel(t, o, n)
	if again.Revision().Digest == s.Table.Digest() {
		t.Error("an entry that nobody knows doesn't count")
	}
	n.byNum[own] = "tacit/check"
	if _, err := again.Apply(s); err != nil {
		t.Fatal(err)
	}
	if got := again.Revision().Digest; got != s.Table.Digest() {
		t.Errorf("digest %s after a restart, want %s", got, s.Table.Digest())
	}
}

// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"tacit/bpf"
	"tacit/identity"
	"tacit/policy"
	"tacit/policy/kernel"
)

// TestTheDefaultIsTheTables: the kernel's default becomes that of each new table.
func TestTheDefaultIsTheTables(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	n := newNumbers()
	k := newKernel(t, o, n)
	for _, action := range []policy.Action{policy.Allow, policy.Deny, policy.Allow} {
		table := policy.NewTable(action, nil)
		if changed, err := k.Apply(kernel.State{Table: table}); err != nil || !changed {
			t.Errorf("default %s: changed %v, %v", action, changed, err)
		}
		got, err := o.Decide(bpf.Pair{Source: n.Number("a"), Destination: n.Number("b")}, false)
		if want := table.Decide("a", "b").Reason; err != nil || kernel.ReasonOf(got) != want {
			t.Errorf("default %s: %s, %v; want %s", action, kernel.ReasonOf(got), err, want)
		}
	}
}

// TestLocalhostIsBothFamilies: an upstream on 127.0.0.1 is also reached on ::1. The
// real address of an outside service leads there for every workload.
func TestLocalhostIsBothFamilies(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	n := newNumbers()
	k := newKernel(t, o, n)
	s := fullState()
	s.Upstreams = append(s.Upstreams, kernel.Upstream{Service: "web", Bind: netip.MustParseAddrPort("127.0.0.9:1"), Destination: "db", Port: 5432},
		kernel.Upstream{Bind: netip.MustParseAddrPort("203.0.113.5:5433"), Destination: "db", Port: 5432})
	if _, err := k.Apply(s); err != nil {
		t.Fatal(err)
	}
	ups, err := o.Upstreams().All()
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"127.0.0.1:12000", "[::1]:12000", "127.0.0.9:1"} {
		key := bpf.UpstreamKey{Service: n.Number("web"), Bind: netip.MustParseAddrPort(at)}
		if ups[key] != (bpf.Upstream{Destination: n.Number("db"), Port: 5432}) {
			t.Errorf("%s leads to %+v", at, ups[key])
		}
		delete(ups, key)
	}
	everybody := bpf.UpstreamKey{Bind: netip.MustParseAddrPort("203.0.113.5:5433")}
	if ups[everybody] != (bpf.Upstream{Destination: n.Number("db"), Port: 5432}) {
		t.Errorf("%s leads to %+v", everybody.Bind, ups[everybody])
	}
	delete(ups, everybody)
	if len(ups) > 0 {
		t.Errorf("unexpected upstreams: %v", ups)
	}
}

// TestNumberOfKnowsTheRange: an address in the range with more than a number in it.
func TestNumberOfKnowsTheRange(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	k := newKernel(t, o, newNumbers())
	if n, ok := k.NumberOf(netip.MustParseAddr("fd7a:ac17:0:1::1")); ok {
		t.Errorf("fd7a:ac17:0:1::1 is number %d; want none", n)
	}
}

// TestFullMapStaysClosed: in a full map, allows make room for denies, and Apply
// reports it.
func TestFullMapStaysClosed(t *testing.T) {
	_, o := load(t, bpf.Limits{Intentions: 8})
	n := newNumbers()
	k := newKernel(t, o, n)
	var rules []policy.Intention
	for i := range 8 {
		rules = append(rules, policy.Intention{Source: identity.Name(fmt.Sprint("s", i)), Destination: "db", Action: policy.Allow})
	}
	if _, err := k.Apply(kernel.State{Table: policy.NewTable(policy.Allow, rules)}); err != nil {
		t.Fatal(err)
	}
	rules = append(rules, policy.Intention{Source: policy.Any, Destination: "db", Action: policy.Deny},
		policy.Intention{Source: "web", Destination: "db", Action: policy.Deny})
	if _, err := k.Apply(kernel.State{Table: policy.NewTable(policy.Allow, rules)}); !errors.Is(err, bpf.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	for _, src := range []identity.Name{"web", "stranger"} {
		if got, err := o.Decide(bpf.Pair{Source: n.Number(src), Destination: n.Number("db")}, false); err != nil || got != bpf.Intention {
			t.Errorf("%s to db: %s, %v", src, kernel.ReasonOf(got), err)
		}
	}
}

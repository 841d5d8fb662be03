// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tacit/bpf"
	"tacit/identity"
	"tacit/policy"
	"tacit/policy/kernel"
)

// TestVerify: what others delete, change and add is found, and the next Apply
// makes it as it was.
func TestVerify(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	n := newNumbers()
	k := newKernel(t, o, n)
	if _, err := k.Apply(fullState()); err != nil {
		t.Fatal(err)
	}
	web, db := n.Number("web"), n.Number("db")
	table := fullState().Table
	for _, tt := range []struct {
		name string
		harm func() error
		want []string
	}{
		{"nothing", func() error { return nil }, nil},
		{"an allow deleted", func() error { return o.Intentions().Delete(bpf.Pair{Source: web, Destination: db}) }, []string{"intentions"}},
		{"an allow turned round", func() error { return o.Intentions().Put(bpf.Pair{Source: web, Destination: db}, false) }, []string{"intentions"}},
		{"an allow added", func() error { return o.Intentions().Put(bpf.Pair{Source: bpf.Any, Destination: bpf.Any}, true) }, []string{"intentions"}},
		{"a workload enrolled", func() error { return o.Workloads().Put(78, web) }, []string{"workloads"}},
		{"a guard taken off", func() error { return o.Guards().Delete(80) }, []string{"guards"}},
		{"more than one", func() error {
			if err := o.Locals().Put(netip.MustParseAddr("10.0.0.9"), 1); err != nil {
				return err
			}
			return o.Ports().Delete(bpf.PortKey{Service: db, Port: 5432})
		}, []string{"locals", "ports"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.harm(); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			if got, err := k.Verify(); err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("changed %v, %v; want %v", got, err, tt.want)
			}
			t.Logf("took %s", time.Since(begin))
			s := fullState()
			s.Table = table // the same: nothing else makes Apply look at the intentions
			if changed, err := k.Apply(s); err != nil || changed != (tt.want != nil) {
				t.Errorf("apply: changed %v, %v", changed, err)
			}
			if got, err := k.Verify(); err != nil || got != nil {
				t.Errorf("after apply: %v, %v", got, err)
			}
			if sizes := sizes(t, o); sizes["intentions"] != 1 || sizes["workloads"] != 1 || sizes["locals"] != 1 || sizes["ports"] != 4 {
				t.Errorf("sizes %v", sizes)
			}
		})
	}
}

// TestVerifyOfManyIsCheap: the largest map that a mesh will have.
func TestVerifyOfManyIsCheap(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	k := newKernel(t, o, newNumbers())
	var rules []policy.Intention
	for i := range 100_000 {
		rules = append(rules, policy.Intention{Source: identity.Name(fmt.Sprint("s", i/300)), Destination: identity.Name(fmt.Sprint("d", i%300)), Action: policy.Allow})
	}
	if _, err := k.Apply(kernel.State{Table: policy.NewTable(policy.Deny, rules)}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if got, err := k.Verify(); err != nil || got != nil {
		t.Fatalf("%v, %v", got, err)
	}
	took := time.Since(begin)
	t.Logf("%d intentions: %s", len(rules), took)
	if took > 2*time.Second { // a loop every few seconds must bear it, on a loaded machine too
		t.Errorf("%s for one look", took)
	}
}

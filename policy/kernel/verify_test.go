// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"tacit/bpf"
)

// TestVerify: Verify names the maps in which another process has deleted, changed or
// added an entry, and the next Apply restores them.
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
		{"an allow changed to deny", func() error { return o.Intentions().Put(bpf.Pair{Source: web, Destination: db}, false) }, []string{"intentions"}},
		{"an allow added", func() error { return o.Intentions().Put(bpf.Pair{Source: bpf.Any, Destination: bpf.Any}, true) }, []string{"intentions"}},
		{"a workload enrolled", func() error { return o.Workloads().Put(78, web) }, []string{"workloads"}},
		{"a guard deleted", func() error { return o.Guards().Delete(80) }, []string{"guards"}},
		{"two maps", func() error {
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
			s.Table = table // the same table: only Verify makes Apply compile it again
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

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"tacit/bpf"
	"tacit/identity"
	"tacit/node/api"
	"tacit/node/definition"
	"tacit/node/inventory"
)

// TestResolve: a service with one port is reached by 80 and 443, too.
func TestResolve(t *testing.T) {
	f := newFixture(t)
	for _, s := range []definition.Definition{{Name: "db", Port: 5432}, {Name: "web", Port: 8080}, {Name: "web", ID: "web-2", Port: 80}} {
		f.inventory.has(s, inventory.StateVerified)
		if err := f.Grant("host1", s.Name, false); err != nil {
			t.Fatal(err)
		}
	}
	f.loop.Settle()
	for name, want := range map[string]string{
		"db":          "db at 240.64.0.2 and fd00::2, ports [80 443 5432]: it is a service",
		"db.consul":   "db at 240.64.0.2 and fd00::2, ports [80 443 5432]: it is a service",
		"web":         "web at 240.64.0.3 and fd00::3, ports [80 8080]: it is a service",
		"example.com": " at invalid IP and invalid IP, ports []: no service has that name",
	} {
		r, err := f.Host.Resolve(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		differs(t, r.Name, fmt.Sprintf("%s at %s and %s, ports %v: %s", r.Service, r.Virtual4, r.Virtual6, r.Ports, r.Why), want)
	}
	web := f.inventory.services
	f.inventory.services = web[:1]
	f.inventory.has(definition.Definition{Name: "web", Port: 443}, inventory.StateVerified)
	f.loop.Settle()
	if r, err := f.Host.Resolve(t.Context(), "web"); err != nil || fmt.Sprint(r.Ports) != "[80 443]" {
		t.Errorf("a service on 443: %+v, %v", r, err)
	}
}

// TestConfirm: what stays is named; where nothing waits, nothing is done.
func TestConfirm(t *testing.T) {
	tree, _ := newTree(t)
	f := newFixture(t).in(tree)
	f.kernel.hooks = make([]bpf.Hook, 12)
	for _, c := range []struct {
		left     int
		err      error
		hooksErr error
		want     string
	}{
		{want: "false"},
		{left: 1, err: errors.New("the mark can't be removed"), want: "2: the mark can't be removed"},
		{left: 1, hooksErr: errors.New("no bpffs"), want: "2: no bpffs"},
		{left: 1, want: `true
12 eBPF programs on the cgroup ` + f.Tree.Root() + ` and this network namespace
their maps and links, pinned below /sys/fs/bpf/tacit
` + f.kernel.Plan().String()},
	} {
		f.kernel.left, f.kernel.confirmErr, f.kernel.hooksErr = 1, c.err, c.hooksErr
		if c.left == 0 {
			f.kernel.left = 0
		}
		out, err := f.Host.Confirm(t.Context(), api.ConfirmRequest{})
		got := says(err)
		if err == nil {
			got = strings.Join(append([]string{fmt.Sprint(out.Confirmed)}, out.Permanent...), "\n")
		}
		differs(t, fmt.Sprintf("%+v", c), got, c.want)
	}
}

// TestNamesOfOperators: each node once, sorted, however many keys it holds.
func TestNamesOfOperators(t *testing.T) {
	f := newFixture(t)
	for _, node := range []identity.Name{"host3", "host2", "host3"} {
		f.operator(t, node)
	}
	k := control{f.Config}
	differs(t, "operators", strings.Join(k.operators(), " "), "host1 host2 host3")
}

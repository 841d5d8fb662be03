// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"net/netip"
	"path/filepath"
	"testing"

	"tacit/bpf"
	"tacit/identity"
	"tacit/policy"
	"tacit/policy/kernel"
)

// ownedByBPF lists the maps that no State fills, and what fills them.
var ownedByBPF = map[string]string{
	"settings":  "bpf.Objects writes and repairs it",
	"listeners": "bpf.Objects.SetListeners writes it, Repair repairs it",
	"resolvers": "bpf.Objects.SetResolvers writes it, Repair repairs it",
	"answers":   "the reverse of resolvers",
	"alive":     "SetServing sets it, the program at sock_release clears it",
	"sockets":   "socket storage: programs write it, the daemon tags its own sockets",
	"origins":   "written and removed by the sockops program",
	"usage":     "counts the entries of origins",
	"events":    "the ring buffer of refusals",
	"announced": "the ring buffer of listeners that begin or end",
	"counters":  "counted by the programs",
	"direct":    "summed by the sockops program",
	"scratch":   "working memory of one program run",
}

// everything is a State that puts at least one entry into every map.
func everything() kernel.State {
	s := fullState()
	s.Workloads.Namespaces = map[uint64]identity.Name{78: "web"}
	s.Workloads.Users = map[uint32]identity.Name{1000: "web"}
	s.Workloads.Interfaces = map[uint32]identity.Name{7: "web"}
	s.Exempt = kernel.Exempt{Ports: []uint16{22}, Nets: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}}
	s.ExemptPeers = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.3:40000")}
	s.InnerGuards = []kernel.Guard{{Port: 5432, Service: "db"}}
	s.Domains, s.Hosts = []string{"mesh"}, []string{"db"}
	return s
}

// used returns how many entries each map of the registry holds.
func used(t *testing.T, k *kernel.Kernel) map[string]uint64 {
	t.Helper()
	rooms, err := k.Room(nil)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint64{}
	for _, r := range rooms {
		out[r.What] = r.Used
	}
	delete(out, "connections on their way") // no map of the registry
	return out
}

// TestEveryMapHasAnOwner: a map that is compiled into the programs is either in
// the registry or in the list above; one that is in neither would be neither
// cleared nor verified.
func TestEveryMapHasAnOwner(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	inRegistry := used(t, newKernel(t, o, newNumbers()))
	pins, err := bpf.Pins(bpf.Config{PinDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	compiled := map[string]bool{}
	for _, p := range pins {
		if p.Hook != "" {
			continue
		}
		name := filepath.Base(p.Path)
		compiled[name] = true
		_, registered := inRegistry[name]
		if owned := ownedByBPF[name] != ""; registered == owned {
			t.Errorf("map %s: in the registry %v, owned by bpf %v; want one of the two", name, registered, owned)
		}
	}
	for name := range ownedByBPF {
		if !compiled[name] {
			t.Errorf("map %s is owned by bpf and is not compiled", name)
		}
	}
	for name := range inRegistry {
		if !compiled[name] {
			t.Errorf("map %s is in the registry and is not compiled", name)
		}
	}
}

// TestEveryMapIsWrittenAndCleared: a State reaches every map of the registry,
// a restart reads every map, and an empty State empties every map.
func TestEveryMapIsWrittenAndCleared(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	n := newNumbers()
	if _, err := newKernel(t, o, n).Apply(everything()); err != nil {
		t.Fatal(err)
	}
	k := newKernel(t, o, n)
	for name, entries := range used(t, k) {
		if entries == 0 {
			t.Errorf("map %s is empty: no part of the State reaches it", name)
		}
	}
	if _, err := k.Apply(kernel.State{Table: policy.NewTable(policy.Deny, nil)}); err != nil {
		t.Fatal(err)
	}
	for name, entries := range sizes(t, o) {
		if entries != 0 {
			t.Errorf("map %s keeps %d entries", name, entries)
		}
	}
}

// TestBackToTheLastTable: a table that could not be written whole is undone by
// applying the one before, which the maps no longer hold.
func TestBackToTheLastTable(t *testing.T) {
	_, o := load(t, bpf.Limits{Workloads: 1})
	n := newNumbers()
	k := newKernel(t, o, n)
	before, after := fullState(), fullState()
	after.Table = policy.NewTable(policy.Deny, []policy.Intention{{Source: policy.Any, Destination: policy.Any, Action: policy.Allow}})
	after.Workloads.Cgroups = map[uint64]identity.Name{77: "web", 79: "db"}
	if _, err := k.Apply(before); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Apply(after); err == nil {
		t.Fatal("two workloads fit into a map for one")
	}
	if _, err := k.Apply(before); err != nil {
		t.Fatal(err)
	}
	got, err := o.Decide(bpf.Pair{Source: n.Number("db"), Destination: n.Number("web")}, false)
	if err != nil || kernel.ReasonOf(got) != policy.ReasonDefault {
		t.Errorf("db to web: %s, %v; want the default", kernel.ReasonOf(got), err)
	}
}

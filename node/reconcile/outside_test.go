// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/definition/external"
	"tacit/node/inventory"
	"tacit/policy/ledger/statement"
)

// beyond is an instance of a service outside of the mesh.
func beyond(node, service identity.Name, o statement.Outside) statement.Instance {
	b := on(node, service, 5432)
	b.Outside = &o
	return b
}

// TestOutside: the daemon carries every connection to a service outside of the mesh;
// no port is closed for it, and its node's own port is none of it.
func TestOutside(t *testing.T) {
	foreign := func(a netip.Addr) error {
		if a == netip.MustParseAddr("10.0.0.2") {
			return errors.New("10.0.0.2 is the address of the node host2")
		}
		return nil
	}
	rds := beyond("host1", "rds", statement.Outside{Hosts: []string{"a.example"}})
	far := beyond("host2", "rds", statement.Outside{Hosts: []string{"a.example"}, Addresses: []string{"203.0.113.5:5432", "10.0.0.2:22"}})
	ours := local("rds", 5432, inventory.Listener{State: inventory.StateOutside})
	ours.Outside = &external.Place{Hosts: []string{"a.example"}}
	for name, c := range map[string]struct {
		in    Input
		mesh  mesh
		alive []identity.Name
		want  string
	}{
		"here": {in: Input{View: &inventory.View{Services: []inventory.Service{ours}}}, mesh: mesh{rds},
			want: "rds:5432 is elsewhere"},
		"on another node": {mesh: mesh{far}, alive: []identity.Name{"host2"},
			want: `rds:5432 is elsewhere
 calls rds:5432 by 203.0.113.5:5432
problem with outside 10.0.0.2:22: the record of rds on host2: 10.0.0.2 is the address of the node host2: it is never called`},
		"on a node that is dead": {mesh: mesh{far},
			want: `rds:5432 is nowhere
 calls rds:5432 by 203.0.113.5:5432
problem with outside 10.0.0.2:22: the record of rds on host2: 10.0.0.2 is the address of the node host2: it is never called`},
		"from anywhere": {mesh: mesh{beyond("host2", "rds", statement.Outside{Hosts: []string{"a.example"}, Anywhere: true})},
			want: "rds:5432 is elsewhere"},
	} {
		c.in.Foreign = foreign
		if got := compile(c.in, c.mesh, c.alive...); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

// TestRealNamesStay: no other resolver is asked for the real name of a service, unless
// it is below a domain of the mesh, where it means nothing.
func TestRealNamesStay(t *testing.T) {
	m := mesh{beyond("host2", "rds", statement.Outside{Hosts: []string{"b.example", "a.example", "x.mesh"}})}
	s, found := Compile(Input{Catalog: catalog.New("host1", m, everything), View: &inventory.View{}, Granted: everything,
		Proven: func(catalog.Instance) []netip.Addr { return nil },
		Names: func(map[identity.Name][]string) (domains, hosts []string, _ bool) {
			return []string{"mesh"}, []string{"rds"}, false
		}})
	if got := fmt.Sprint(s.Hosts); got != "[rds a.example b.example]" {
		t.Error(got)
	}
	if got := fmt.Sprint(found["outside"]); got != "map[x.mesh:it is below mesh, whose names are the mesh's: it isn't rds]" {
		t.Error(got)
	}
}

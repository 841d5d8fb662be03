// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/netip"
	"slices"

	"tacit/node/definition"
	"tacit/node/inventory"
	"tacit/redirect/sockdiag"
)

// defined is an inventory without disk and kernel: it keeps what it is told.
type defined struct {
	services []inventory.Service
	held     map[string]definition.Definition // by id: those of files that wait for a yes
	exempt   []sockdiag.Connection
	rescans  int

	plain, own []sockdiag.Connection // what PlainClients finds
	listener   inventory.Listener    // of what is registered
}

func newDefined() *defined { return &defined{held: map[string]definition.Definition{}} }

// has defines an instance in a file, with somebody's listener.
func (d *defined) has(s definition.Definition, state inventory.State) {
	if s.ID == "" {
		s.ID = string(s.Name)
	}
	if s.Source == "" {
		s.Source = string(s.Name) + ".hcl:1"
	}
	d.services = append(d.services, inventory.Service{Definition: s, Listener: inventory.Listener{State: state, Owner: "socket of uid 7"}})
}

func (d *defined) View() *inventory.View {
	return &inventory.View{Services: slices.Clone(d.services)}
}

func (d *defined) Register(def definition.Definition) error {
	d.remove(def.ID)
	d.services = append(d.services, inventory.Service{Definition: def, Listener: d.listener})
	return nil
}

func (d *defined) Deregister(id string) error {
	d.remove(id)
	return nil
}

func (d *defined) remove(id string) {
	d.services = slices.DeleteFunc(d.services, func(s inventory.Service) bool { return s.ID == id })
}

func (d *defined) Held(def definition.Definition) bool {
	_, ok := d.held[def.ID]
	return ok
}

func (d *defined) Release(def definition.Definition) (was bool, err error) {
	held, ok := d.held[def.ID]
	if ok {
		delete(d.held, def.ID)
		d.has(held, inventory.StateVerified)
	}
	return ok, nil
}

func (d *defined) Exempt(conns []sockdiag.Connection) error {
	d.exempt = append(d.exempt, conns...)
	return nil
}

func (d *defined) PlainClients(uint16, int) (plain, own []sockdiag.Connection, err error) {
	return d.plain, d.own, nil
}

func (d *defined) Rescan() { d.rescans++ }

// from are n connections of one host, by source port.
func from(host string, n int) []sockdiag.Connection {
	var out []sockdiag.Connection
	for i := range n {
		out = append(out, sockdiag.Connection{Remote: netip.AddrPortFrom(netip.MustParseAddr(host), uint16(i+1))})
	}
	return out
}

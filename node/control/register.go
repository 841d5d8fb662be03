// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"net/netip"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/definition"
	"tacit/node/definition/external"
	"tacit/node/inventory"
	"tacit/node/inventory/sessions"
	"tacit/policy"
	"tacit/redirect/sockdiag"
)

// Register keeps a definition and puts it in force; or puts in force what a
// file defines and what waits for a yes.
func (s services) Register(ctx context.Context, r api.Registration) (*api.RegisterResult, error) {
	d, err := toDefinition(r)
	if err != nil {
		return nil, err
	}
	if err := s.mayRegister(d); err != nil {
		return nil, err
	}
	pid := 0
	if peer, ok := api.PeerFrom(ctx); ok {
		pid = int(peer.PID)
	}
	plain, own, err := s.Inventory.PlainClients(d.LocalPort(), pid)
	if err != nil {
		return nil, err
	}
	if err := s.needsYes(r, d, own); err != nil {
		return nil, err
	}
	outside := s.outside(ctx, d) // before the kernel keeps such queries on this host
	out := &api.RegisterResult{}
	if out.GrantSigned, err = s.grantHere(ctx, d.Name, d.Outside.Claims()...); err != nil {
		return nil, err
	}
	if err := s.keep(d, own); err != nil {
		return nil, err
	}
	s.Loop.Settle()
	out.Warnings = append(s.registerWarnings(d, plain, own), outside...)
	out.Service, out.Notes = s.service(d.Name), s.claimNotes(d)
	if r.Wait {
		out.Spread = s.awaitNames(ctx, r.Live, r.Timeout)
	}
	return out, nil
}

// keep exempts the caller's own connections, and then keeps the definition,
// unless a file has it.
func (s services) keep(d definition.Definition, own []sockdiag.Connection) error {
	if err := s.Inventory.Exempt(own); err != nil {
		return err
	}
	ofFile, err := s.Inventory.Release(d)
	if err != nil || ofFile {
		return err
	}
	return s.Inventory.Register(d)
}

// mayRegister refuses what contradicts what is defined already.
func (s services) mayRegister(d definition.Definition) error {
	view := s.Inventory.View()
	if err := view.Clash(d); err != nil {
		return api.Refused("tacit services lists the ports", "%s", err)
	}
	if err := s.Settings.Exclude.Clash(d); err != nil {
		return api.Refused("", "%s", err)
	}
	if err := s.mayBeOutside(d.Outside); err != nil {
		return err
	}
	if old, ok := view.ByID(d.ID); ok && old.Port != 0 && d.Port == 0 {
		return api.Refused(fmt.Sprintf("give --port %d, or deregister it first", old.Port), "%s is registered with port %d, and this would drop it", d.ID, old.Port)
	}
	return nil
}

// needsYes refuses to close the port by which the caller works on this host,
// and to put in force what waits for a yes, unless the caller says so.
func (s services) needsYes(r api.Registration, d definition.Definition, own []sockdiag.Connection) error {
	const hint = "repeat it with --yes if that is meant: this session is not cut, but new ones are refused"
	switch {
	case r.Yes:
		return nil
	case s.Inventory.Held(d):
		return api.Refused(hint, "%s is defined in a file and not in force yet, because people are logged in by port %d", d.ID, d.Port)
	case len(own) > 0 && !r.Permissive:
		return api.Refused(hint, "port %d carries the session in which you work, from %s; registering it closes the port to plain connections", d.Port, sessions.Remotes(own))
	}
	return nil
}

func (s services) registerWarnings(d definition.Definition, plain, own []sockdiag.Connection) []string {
	var out []string
	if len(plain) > 0 && !d.Permissive {
		out = append(out, fmt.Sprintf("cuts %d plain connections: %s", len(plain), sessions.Remotes(plain)))
	}
	if len(own) > 0 && !d.Permissive {
		out = append(out, fmt.Sprintf("leaves the session in which you work, from %s; new ones to port %d are refused", sessions.Remotes(own), d.Port))
	}
	here, ok := s.Inventory.View().Find(d.Name, d.Port, d.ID)
	if ok && here.Listener.State == inventory.StateUnowned {
		out = append(out, fmt.Sprintf("port %d is held by another program (%s): calls are refused with the reason listener", d.Port, here.Listener.Owner))
	}
	if d.Port != 0 && !s.callable(d.Name) {
		out = append(out, fmt.Sprintf("nobody may call %s yet: tacit intention allow SRC %s", d.Name, d.Name))
	}
	return append(out, d.Ignored...)
}

// outside asks what a name that is new here means outside of the mesh.
func (s services) outside(ctx context.Context, d definition.Definition) []string {
	if d.Port == 0 || s.Loop.Catalog().Known(d.Name) {
		return nil
	}
	return s.Names.Outside(ctx, d.Name)
}

// callable reports whether any rule lets somebody call the service.
func (s services) callable(service identity.Name) bool {
	t := s.Loop.Policy()
	for _, i := range t.List() {
		if i.Action == policy.Allow && (i.Destination == service || i.Destination == policy.Any) {
			return true
		}
	}
	return t.Default() == policy.Allow
}

func toDefinition(r api.Registration) (definition.Definition, error) {
	d := definition.Definition{Name: r.Name, ID: r.ID, Port: r.Port, Address: r.Address, Tags: r.Tags, Meta: r.Meta,
		Permissive: r.Permissive, ClientAddress: definition.ClientAddress(r.ClientAddress), Source: inventory.SourceCommand}
	if d.ID == "" {
		d.ID = string(r.Name)
	}
	if r.Address != "" {
		if _, err := netip.ParseAddr(r.Address); err != nil {
			return d, api.Failed("", "--address %q: not an IP address", r.Address)
		}
	}
	d.Workload = definition.Workload{Cgroup: r.Workload.Cgroup, SystemdUnit: r.Workload.SystemdUnit, Container: r.Workload.Container,
		UID: r.Workload.UID, NetNS: r.Workload.NetNS, Interface: r.Workload.Interface}
	for _, u := range r.Upstreams {
		d.Upstreams = append(d.Upstreams, definition.Upstream{Destination: u.Destination, Bind: u.Bind})
	}
	if len(r.Outside) > 0 {
		var err error
		if d.Outside, err = external.Parse(r.Outside, r.Anywhere); err != nil {
			return d, api.Failed("", "--outside: %s", err)
		}
	}
	if err := d.Check(); err != nil {
		return d, api.Failed("", "%s", err)
	}
	return d, nil
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	"tacit/redirect/sockdiag"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/definition"
	"tacit/policy"
	"tacit/policy/ledger"
)

func (n *Node) notGranted(service identity.Name) error {
	return &api.Error{Code: api.CodeRefused, Reason: "grant",
		Message: fmt.Sprintf("service %s is not granted to node %s", service, n.cfg.name),
		Hint:    fmt.Sprintf("on a node with an operator key: tacit node grant %s --service %s", n.cfg.name, service)}
}

// grantHere makes sure that this node may run the service: an operator's node
// grants it to itself.
func (b backend) grantHere(service identity.Name) (signed bool, err error) {
	n := b.n
	if n.member.ledger.Granted(n.cfg.name, service) {
		return false, nil
	}
	if n.member.operator == nil {
		refusal := n.notGranted(service).(*api.Error)
		refusal.Nodes = b.operators()
		return false, refusal
	}
	return true, b.n.signGrant(n.cfg.name, service, false)
}

func (n *Node) signGrant(node, service identity.Name, withdraw bool) error {
	body := ledger.GrantBody{Node: node, Service: service}
	return n.sign(n.member.operator, ledger.KindGrant, string(node)+"/"+string(service), body, withdraw)
}

// Register keeps a definition and puts it in force; or puts in force what a
// file defines and what waits for a yes.
func (b backend) Register(ctx context.Context, r api.Registration) (*api.RegisterResult, error) {
	d, err := toDefinition(r)
	if err != nil {
		return nil, err
	}
	if err := b.mayRegister(d); err != nil {
		return nil, err
	}
	plain, own, err := b.plainClients(ctx, d.Port)
	if err != nil {
		return nil, err
	}
	if err := b.needsYes(r, d, own); err != nil {
		return nil, err
	}
	out := &api.RegisterResult{}
	if out.GrantSigned, err = b.grantHere(d.Name); err != nil {
		return nil, err
	}
	if err := b.n.spare(own); err != nil {
		return nil, err
	}
	if ofFile, err := b.n.release(d); err != nil {
		return nil, err
	} else if !ofFile {
		if err := b.n.store.PutService(d.ID, d); err != nil {
			return nil, err
		}
	}
	b.n.reconcile()
	out.Warnings = b.registerWarnings(d, plain, own)
	out.Service = b.service(d.Name)
	return out, nil
}

// mayRegister refuses what contradicts what is defined already.
func (b backend) mayRegister(d definition.Definition) error {
	if err := b.n.local.Load().clash(d); err != nil {
		return api.Refused("tacit services lists the ports", "%s", err)
	}
	if err := b.n.cfg.Exclude.clash(d); err != nil {
		return api.Refused("", "%s", err)
	}
	if old, ok := b.n.local.Load().byID(d.ID); ok && old.Port != 0 && d.Port == 0 {
		return api.Refused(fmt.Sprintf("give --port %d, or deregister it first", old.Port), "%s is registered with port %d, and this would drop it", d.ID, old.Port)
	}
	return nil
}

// needsYes refuses to close the port by which the caller works on this host,
// and to put in force what waits for a yes, unless the caller says so.
func (b backend) needsYes(r api.Registration, d definition.Definition, own []sockdiag.Connection) error {
	const hint = "repeat it with --yes if that is meant: this session is not cut, but new ones are refused"
	switch {
	case r.Yes:
		return nil
	case b.n.waits(d):
		return api.Refused(hint, "%s is defined in a file and not in force yet, because people are logged in by port %d", d.ID, d.Port)
	case len(own) > 0 && !r.Permissive:
		return api.Refused(hint, "port %d carries the session in which you work, from %s; registering it closes the port to plain connections", d.Port, peersOf(own))
	}
	return nil
}

func (b backend) registerWarnings(d definition.Definition, plain, own []sockdiag.Connection) []string {
	var out []string
	if len(plain) > 0 && !d.Permissive {
		out = append(out, fmt.Sprintf("cuts %d plain connections: %s", len(plain), peersOf(plain)))
	}
	if len(own) > 0 && !d.Permissive {
		out = append(out, fmt.Sprintf("leaves the session in which you work, from %s; new ones to port %d are refused", peersOf(own), d.Port))
	}
	s, ok := b.n.local.Load().find(d.Name, d.Port, d.ID)
	if ok && s.listener.state == listenerForeign {
		out = append(out, fmt.Sprintf("port %d is held by somebody else's program (%s): calls are refused with the reason listener", d.Port, s.listener.who))
	}
	if d.Port != 0 && !b.called(d.Name) {
		out = append(out, fmt.Sprintf("nobody may call %s yet: tacit intention allow SRC %s", d.Name, d.Name))
	}
	return append(out, d.Ignored...)
}

// called says whether any rule lets somebody call the service.
func (b backend) called(service identity.Name) bool {
	t := b.n.table.Load()
	for _, i := range t.List() {
		if i.Action == policy.Allow && (i.Destination == service || i.Destination == policy.Any) {
			return true
		}
	}
	return t.Default() == policy.Allow
}

func toDefinition(r api.Registration) (definition.Definition, error) {
	d := definition.Definition{Name: r.Name, ID: r.ID, Port: r.Port, Address: r.Address, Tags: r.Tags, Meta: r.Meta,
		Permissive: r.Permissive, Source: sourceCommand}
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
	if err := d.Check(); err != nil {
		return d, api.Failed("", "%s", err)
	}
	return d, nil
}

// Deregister forgets instances that were registered by command.
func (b backend) Deregister(_ context.Context, r api.Deregistration) (*api.DeregisterResult, error) {
	out := &api.DeregisterResult{Removed: []string{}}
	for _, s := range b.n.local.Load().services {
		if s.Name != r.Name || (r.ID != "" && s.ID != r.ID) {
			continue
		}
		if s.Source != sourceCommand {
			out.Notes = append(out.Notes, s.ID+" is defined in "+s.Source+"; remove it there")
			continue
		}
		if err := b.n.store.DeleteService(s.ID); err != nil {
			return nil, err
		}
		out.Removed = append(out.Removed, s.ID)
	}
	if len(out.Removed) == 0 {
		hint := "tacit services lists the instances of this node"
		if len(out.Notes) > 0 {
			hint = out.Notes[0]
		}
		return nil, api.Refused(hint, "no instance of %s on this node was registered by command", r.Name)
	}
	b.n.reconcile()
	return out, b.n.tree.RemoveService(r.Name)
}

// Run moves the calling process into the service's workload.
func (b backend) Run(ctx context.Context, r api.RunRequest) (*api.RunResult, error) {
	peer, ok := api.PeerFrom(ctx)
	if !ok {
		return nil, api.Failed("", "the kernel doesn't say which process is asking")
	}
	out := &api.RunResult{Service: r.Service}
	if err := b.ensureDefined(r.Service, out); err != nil {
		return nil, err
	}
	if _, err := b.n.tree.ServiceCgroup(r.Service); err != nil {
		return nil, err
	}
	b.n.reconcile() // the workload is in the kernel's map before the process is in the cgroup
	pidfd := -1
	if peer.PIDFD != nil {
		pidfd = int(peer.PIDFD.Fd())
	}
	if err := b.n.tree.Admit(r.Service, int(peer.PID), pidfd); err != nil {
		return nil, err
	}
	out.Cgroup = b.n.tree.ServicePath(r.Service)
	b.n.log.Info("workload started", "service", r.Service, "pid", strconv.Itoa(int(peer.PID)), "uid", peer.UID)
	return out, nil
}

// ensureDefined registers a service that is only run, where it is nowhere defined.
func (b backend) ensureDefined(service identity.Name, out *api.RunResult) error {
	signed, err := b.grantHere(service)
	if err != nil {
		return err
	}
	out.GrantSigned = signed
	for _, s := range b.n.local.Load().services {
		if s.Name == service {
			return nil
		}
	}
	out.Registered = true
	return b.n.store.PutService(string(service), definition.Definition{Name: service, ID: string(service), Source: sourceCommand})
}

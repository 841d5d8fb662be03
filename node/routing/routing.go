// SPDX-License-Identifier: Apache-2.0

// Package routing answers the proxy's questions about one connection: who made it,
// which instance gets it, what the policy says, and where its program listens. It
// asks other parts for their present values; it must neither copy bytes nor keep
// anything of a connection.
package routing

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"

	"tacit/identity"
	"tacit/node/balance"
	"tacit/node/catalog"
	"tacit/node/checks"
	"tacit/node/inventory"
	"tacit/node/seen"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/policy/resolver"
	"tacit/redirect/links"
	"tacit/tproxy"
	"tacit/tproxy/socket"
)

// Enforcer is the kernel's side.
type Enforcer interface {
	NumberOf(netip.Addr) (uint32, bool)
	Origin(fd int) (kernel.Origin, error)
}

// Numbers are those of virtual addresses.
type Numbers interface {
	Name(number uint32) (identity.Name, bool)
}

// Picture is what the node knows now: *reconcile.Loop.
type Picture interface {
	Catalog() *catalog.Catalog
	Policy() *policy.Table
	Guest(index uint32) identity.Name
}

// Config is what a Router asks.
type Config struct {
	Enforcer  Enforcer
	Numbers   Numbers
	Picture   func() Picture
	Balancer  *balance.Balancer
	Inventory *inventory.Inventory
	Granted   func(node, service identity.Name) bool
	Alive     func() map[identity.Name]bool
	Dialer    seen.Dialer
	// Outside connects to an instance outside of the mesh.
	Outside func(context.Context, catalog.Instance, seen.Call) (seen.Dialled, error)
	Self    identity.Name
	Hooks   bool // the kernel judges each connection to a program; without, the TPROXY backend is in use
}

// Router answers the proxy's questions from the node's present picture.
type Router struct{ conf Config }

// New returns a router.
func New(c Config) *Router { return &Router{c} }

// Identify asks the kernel who made the connection. Only a connection to a
// virtual address has an answer: the daemon's port is no open proxy.
func (r *Router) Identify(fd int) (tproxy.Origin, error) {
	local, err := socket.Local(fd)
	if err != nil {
		return tproxy.Origin{}, fmt.Errorf("captured connection: %w", err)
	}
	client, err := socket.Remote(fd)
	if err != nil {
		return tproxy.Origin{}, fmt.Errorf("captured connection: %w", err)
	}
	number, ok := r.conf.Enforcer.NumberOf(local.Addr())
	if !ok {
		return tproxy.Origin{}, policy.Refuse(policy.ReasonIdentity, "%s is no virtual address", local)
	}
	destination, ok := r.conf.Numbers.Name(number)
	if !ok {
		return tproxy.Origin{}, policy.Refuse(policy.ReasonInstance, "%s belongs to no service", local)
	}
	source, err := r.Source(fd)
	if err != nil {
		guest, unknown := r.guest(fd, local.Addr().Is6())
		if unknown != nil || guest == "" {
			return tproxy.Origin{}, err
		}
		source = guest
	}
	if source == checks.Identity {
		return tproxy.Origin{}, policy.Refuse(policy.ReasonIdentity, "health checks don't leave their node")
	}
	subset, destination := resolver.Cut(destination)
	return tproxy.Origin{Source: source, Destination: destination, Subset: subset, Port: local.Port(), Client: client, OriginalDst: local}, nil
}

// Source is who made the connection, as the hooks saw it.
func (r *Router) Source(fd int) (identity.Name, error) {
	origin, err := r.conf.Enforcer.Origin(fd)
	return origin.Source, err
}

// guest is who made a connection that no hook saw, by the interface that it
// came in by; "" is nobody.
func (r *Router) guest(fd int, v6 bool) (identity.Name, error) {
	index, err := links.Ingress(fd, v6)
	return r.conf.Picture().Guest(index), err
}

// Pick chooses an instance of the called service, or of one that stands in for it.
func (r *Router) Pick(o tproxy.Origin, tried []tproxy.Target) (tproxy.Target, error) {
	var before []balance.Key
	for _, t := range tried {
		before = append(before, balance.Key{Node: t.Node, ID: t.Instance})
	}
	source := string(o.Source) + " " + o.Client.Addr().String()
	cat := r.conf.Picture().Catalog()
	in, others, err := r.conf.Balancer.Pick(cat, balance.Call{Service: o.Destination, Subset: o.Subset, Port: o.Port, Source: source, Tried: before,
		Allowed: func(standby identity.Name) bool { return r.Decide(o.Source, standby).Allowed }})
	if err != nil {
		return tproxy.Target{}, err
	}
	_, retry := cat.Settings(in.Service)
	return tproxy.Target{Service: in.Service, Node: in.Node, Lane: in.Lane, Port: in.Port, Instance: in.ID, Local: in.Direct(),
		Others: others, Retry: tproxy.Retry(retry)}, nil
}

// Report tells the balancer what became of a connection.
func (r *Router) Report(t tproxy.Target, how tproxy.Result) {
	r.conf.Balancer.Report(t.Service, balance.Key{Node: t.Node, ID: t.Instance}, how)
}

// Decide judges by the same table that the kernel's maps were made from.
func (r *Router) Decide(src, dst identity.Name) policy.Decision {
	return r.conf.Picture().Policy().Decide(src, dst)
}

// Granted asks the records.
func (r *Router) Granted(node, service identity.Name) bool {
	return r.conf.Granted(node, service)
}

// Alive asks the other nodes.
func (r *Router) Alive(node identity.Name) bool { return r.conf.Alive()[node] }

// Dial begins a connection to an instance outside of the mesh, or to the program.
func (r *Router) Dial(ctx context.Context, in tproxy.Inbound) (tproxy.Dialled, error) {
	i, ok := r.conf.Picture().Catalog().Find(in.Destination, cmp.Or(in.Owner, r.conf.Self), in.Port, in.Instance)
	if ok && i.Outside != nil {
		return r.dialOutside(ctx, in, i)
	}
	return r.dialProgram(in)
}

// dialOutside connects with a socket that carries the proven source, which the
// kernel judges again.
func (r *Router) dialOutside(ctx context.Context, in tproxy.Inbound, i catalog.Instance) (tproxy.Dialled, error) {
	if !i.Direct() || !i.Callable() {
		return tproxy.Dialled{FD: -1}, policy.Refuse(policy.ReasonInstance, "%s port %d isn't reached from this node", in.Destination, in.Port)
	}
	begun, err := r.conf.Outside(ctx, i, seen.Call{Source: in.Source, Destination: in.Destination, Client: in.Client})
	return dialled(in, begun, err)
}

// dialProgram connects only to a listener of the workload, and only with a socket
// that carries the proven source, which the kernel judges again. It takes the listener
// that the inventory knows if the kernel judges that, too; if it is refused, somebody
// has to look, also to know the reason.
func (r *Router) dialProgram(in tproxy.Inbound) (tproxy.Dialled, error) {
	s, ok := r.conf.Inventory.View().Find(in.Destination, in.Port, in.Instance)
	if !ok {
		return tproxy.Dialled{FD: -1}, policy.Refuse(policy.ReasonInstance, "%s port %d doesn't run on this node", in.Destination, in.Port)
	}
	begun := seen.Dialled{FD: -1}
	var err error
	known := r.conf.Hooks && s.Listener.Lasts()
	if known {
		begun, err = r.dialListener(in, s, s.Listener.State == inventory.StateVerified)
	}
	if !known || seen.Refused(err) {
		s.Listener = r.conf.Inventory.Listener(s)
		if err := unserved(in, s.Listener); err != nil {
			return tproxy.Dialled{FD: -1}, err
		}
		begun, err = r.dialListener(in, s, false)
	}
	return dialled(in, begun, err)
}

// unserved says why nobody may be dialled; nil: somebody may.
func unserved(in tproxy.Inbound, l inventory.Listener) error {
	switch {
	case l.Short:
		return policy.Refuse(policy.ReasonLimit, "who holds port %d of %s can't be examined: %s", in.Port, in.Destination, l.Owner)
	case l.State == inventory.StateUnowned:
		return policy.Refuse(policy.ReasonListener, "port %d of %s: %s, outside the workload", in.Port, in.Destination, l.Owner)
	case l.State == inventory.StateOutside:
		return policy.Refuse(policy.ReasonInstance, "%s is outside of the mesh, and isn't in force on this node", in.Destination)
	case l.State == inventory.StateNone:
		return policy.Refuse(policy.ReasonDial, "nobody listens on port %d of %s", in.Port, in.Destination)
	}
	return nil
}

// dialListener connects where the program listens. With owned, the kernel refuses a
// listener that isn't surely the workload's.
func (r *Router) dialListener(in tproxy.Inbound, s inventory.Service, owned bool) (seen.Dialled, error) {
	return r.conf.Dialer.Dial(seen.Call{Source: in.Source, Destination: in.Destination, Node: in.Node, Client: in.Client,
		To: s.Listener.Addr, In: s.Listener.In, Show: s.ClientAddress, Owned: owned})
}

// dialled is a connection that was begun, or why it wasn't.
func dialled(in tproxy.Inbound, begun seen.Dialled, err error) (tproxy.Dialled, error) {
	if err != nil {
		return tproxy.Dialled{FD: -1}, policy.Refuse(policy.ReasonOf(err, policy.ReasonDial), "%s on port %d: %v", in.Destination, in.Port, err)
	}
	return tproxy.Dialled(begun), nil
}

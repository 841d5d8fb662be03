// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"tacit/identity"
	"tacit/node/balance"
	"tacit/node/checks"
	"tacit/node/config"
	"tacit/node/inventory"
	"tacit/node/seen"
	"tacit/policy"
	"tacit/redirect/links"
	"tacit/tproxy"
)

// carrier is what carries connections, and what chooses their instances.
type carrier struct {
	*tproxy.Proxy
	*balance.Balancer
}

// router answers the proxy's questions from the node's present picture.
type router struct{ n *Node }

// Identify asks the kernel who made the connection. Only a connection to a
// virtual address has an answer: the daemon's port is no open proxy.
func (r router) Identify(conn *net.TCPConn) (tproxy.Origin, error) {
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return tproxy.Origin{}, fmt.Errorf("captured connection: %w", err)
	}
	client, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return tproxy.Origin{}, fmt.Errorf("captured connection: %w", err)
	}
	number, ok := r.n.enforcer.NumberOf(local.Addr().Unmap())
	if !ok {
		return tproxy.Origin{}, policy.Refuse(policy.ReasonIdentity, "%s is no virtual address", local)
	}
	destination, ok := r.n.numbers.Name(number)
	if !ok {
		return tproxy.Origin{}, policy.Refuse(policy.ReasonInstance, "%s belongs to no service", local)
	}
	source, err := r.source(conn)
	if err != nil {
		guest, unknown := r.guest(conn, local.Addr().Unmap().Is6())
		if unknown != nil || guest == "" {
			return tproxy.Origin{}, err
		}
		source = guest
	}
	if source == checks.Identity {
		return tproxy.Origin{}, policy.Refuse(policy.ReasonIdentity, "health checks don't leave their node")
	}
	return tproxy.Origin{Source: source, Destination: destination, Port: local.Port(), Client: client, OriginalDst: local}, nil
}

// source is who made the connection, as the hooks saw it.
func (r router) source(conn *net.TCPConn) (identity.Name, error) {
	var name identity.Name
	err := onFD(conn, func(fd int) error {
		origin, err := r.n.enforcer.Origin(fd)
		name = origin.Source
		return err
	})
	return name, err
}

// guest is who made a connection that no hook saw, by the interface that it
// came in by; "" is nobody.
func (r router) guest(conn *net.TCPConn, v6 bool) (name identity.Name, err error) {
	err = onFD(conn, func(fd int) error {
		index, err := links.Ingress(fd, v6)
		name = r.n.loop.Guest(index)
		return err
	})
	return name, err
}

// Pick chooses an instance of the called service.
func (r router) Pick(o tproxy.Origin, tried []tproxy.Target) (tproxy.Target, error) {
	var before []balance.Key
	for _, t := range tried {
		before = append(before, balance.Key{Node: t.Node, ID: t.Instance})
	}
	source := string(o.Source) + " " + o.Client.Addr().String()
	cat := r.n.loop.Catalog()
	in, others, err := r.n.balancer.Pick(cat, o.Destination, o.Port, source, before)
	if err != nil {
		return tproxy.Target{}, err
	}
	_, retry := cat.Settings(o.Destination)
	return tproxy.Target{Service: o.Destination, Node: in.Node, Lane: in.Lane, Port: in.Port, Instance: in.ID, Local: in.Here,
		Others: others, Retry: tproxy.Retry(retry)}, nil
}

// Report tells the balancer what became of a connection.
func (r router) Report(t tproxy.Target, how tproxy.Result) {
	r.n.balancer.Report(t.Service, balance.Key{Node: t.Node, ID: t.Instance}, how)
}

// Decide judges by the same table that the kernel's maps were made from.
func (r router) Decide(src, dst identity.Name) policy.Decision {
	return r.n.loop.Policy().Decide(src, dst)
}

// Granted asks the records.
func (r router) Granted(node, service identity.Name) bool {
	return r.n.records.View().Granted(node, service)
}

// Alive asks the other nodes.
func (r router) Alive(node identity.Name) bool { return r.n.alive()[node] }

// Dial connects to the program: only to a listener of the workload, and only
// with a socket that carries the proven source, which the kernel judges again.
func (r router) Dial(ctx context.Context, in tproxy.Inbound) (*net.TCPConn, error) {
	s, ok := r.n.inventory.View().Find(in.Destination, in.Port, in.Instance)
	if !ok {
		return nil, policy.Refuse(policy.ReasonInstance, "%s port %d doesn't run on this node", in.Destination, in.Port)
	}
	l := r.n.inventory.Listener(s)
	switch l.State {
	case inventory.StateUnowned:
		return nil, policy.Refuse(policy.ReasonListener, "port %d of %s: %s, outside the workload", in.Port, in.Destination, l.Owner)
	case inventory.StateNone:
		return nil, policy.Refuse(policy.ReasonDial, "nobody listens on port %d of %s", in.Port, in.Destination)
	}
	conn, err := r.dial(ctx, seen.Call{Source: in.Source, Destination: in.Destination, Client: in.Client, To: l.Addr, Show: s.ClientAddress})
	if err != nil {
		return nil, policy.Refuse(policy.ReasonDial, "%s on port %d: %v", in.Destination, in.Port, err)
	}
	return conn, nil
}

func (r router) dial(ctx context.Context, c seen.Call) (*net.TCPConn, error) {
	td := r.n.member.Bundle.TrustDomain()
	d := seen.Dialer{Virtual: r.n.virtual, Tag: r.n.enforcer.Tag, Transparent: r.n.cfg.Redirect == config.TPROXY,
		ID: func(name identity.Name) string { return identity.ServiceID(td, name).String() }}
	return d.Dial(ctx, c)
}

func onFD(conn *net.TCPConn, f func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

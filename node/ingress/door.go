// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"tacit/identity"
	"tacit/node/definition"
	"tacit/node/health"
	"tacit/policy"
	"tacit/redirect/listen"
	"tacit/tproxy"
	"tacit/tproxy/socket"
)

// door is one ingress: the tproxy.Entry of its connections.
type door struct {
	name        identity.Name
	service     identity.Name
	servicePort uint16 // 0: the service's only one
	catalog     func() Catalog
	gone        atomic.Bool // not defined or not granted any more, or it leads elsewhere now

	// The Manager's mutex guards what follows.
	def    definition.Ingress
	ln     *listen.Reopening // nil: closed
	where  netip.AddrPort    // of ln
	cancel context.CancelFunc
	why    string // it is closed; "": it is open
	noted  bool   // why was set

	limits
}

func newDoor(name identity.Name, def definition.Ingress, catalog func() Catalog) *door {
	return &door{name: name, service: def.Service, servicePort: def.ServicePort, catalog: catalog, def: def,
		why: string(policy.ReasonListener), limits: limits{clients: map[netip.Addr]int{}}}
}

func (d *door) leadsTo(def definition.Ingress) bool {
	return d.service == def.Service && d.servicePort == def.ServicePort
}

func (d *door) redefine(def definition.Ingress) {
	d.def = def
	d.set(def.MaxConnections, def.MaxPerClient)
}

// at is where the ingress listens: without an address, at all of both families.
func (d *door) at(ipv6 bool) netip.AddrPort {
	addr, err := netip.ParseAddr(d.def.Address)
	switch {
	case err == nil:
	case ipv6:
		addr = netip.IPv6Unspecified()
	default:
		addr = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(addr, d.def.Port)
}

// port is the one that connections go to; 0: the service has several, or none.
func (d *door) port() uint16 {
	if d.servicePort != 0 {
		return d.servicePort
	}
	return d.catalog().DefaultPort(d.service)
}

// listen opens a listener that opens again when others close its socket.
func (m *Manager) listen(d *door, at netip.AddrPort) (*listen.Reopening, error) {
	open := func() (net.Listener, error) { return listen.Carried(m.ctx, at) }
	var ln net.Listener
	if inherited := m.conf.Inherited.TCP(socketName(d.name)); inherited != nil && inherited.Addr().String() == at.String() {
		ln = inherited
	} else if fresh, err := open(); err == nil {
		ln = fresh
	} else {
		return nil, err
	}
	return listen.NewReopening(ln, open, func(err error) {
		m.conf.Health.Set(health.Ingress, string(d.name.Label()), inUse(at.Port(), err))
	}), nil
}

// Sockets are the listeners, by the names under which another daemon finds them.
func (m *Manager) Sockets() map[string]syscall.Conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]syscall.Conn{}
	for name, d := range m.doors {
		if d.ln == nil {
			continue
		}
		if socket, ok := d.ln.Socket(); ok {
			out[socketName(name)] = socket
		}
	}
	return out
}

func socketName(ingress identity.Name) string { return string(ingress) }

// Defined says whether there is an ingress of that name.
func (m *Manager) Defined(name identity.Name) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.doors[name] != nil
}

// closed closes the port, and reports whether it was open.
func (d *door) closed() bool {
	if d.ln == nil {
		return false
	}
	d.cancel()
	_ = d.ln.Close()
	d.ln = nil
	return true
}

// Identify is tproxy.Entry's.
func (d *door) Identify(fd int) (tproxy.Origin, error) {
	local, err := socket.Local(fd)
	client, err2 := socket.Remote(fd)
	if err := errors.Join(err, err2); err != nil {
		return tproxy.Origin{}, fmt.Errorf("connection to %s: %w", d.name, err)
	}
	o := tproxy.Origin{Source: d.name, Destination: d.service, Port: d.port(), Client: client, OriginalDst: local}
	return o, d.enter(client.Addr(), d.name)
}

// Holds is tproxy.Entry's.
func (d *door) Holds() bool { return !d.gone.Load() }

// Left is tproxy.Entry's.
func (d *door) Left(o tproxy.Origin) { d.leave(o.Client.Addr()) }

// limits bound the live connections of an ingress.
type limits struct {
	mu              sync.Mutex
	most, perClient int
	live            int
	clients         map[netip.Addr]int
}

func (l *limits) set(most, perClient int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most, l.perClient = most, perClient
}

// enter counts a connection, unless there are too many.
func (l *limits) enter(client netip.Addr, name identity.Name) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := site(client)
	switch {
	case l.live >= l.most:
		return policy.Refuse(policy.ReasonLimit, "%s has %d connections: max_connections", name, l.live)
	case l.clients[key] >= l.perClient:
		return policy.Refuse(policy.ReasonLimit, "%s has %d connections of %s: max_connections_per_client", name, l.clients[key], key)
	}
	l.live++
	l.clients[key]++
	return nil
}

func (l *limits) leave(client netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.live--
	key := site(client)
	if l.clients[key]--; l.clients[key] == 0 {
		delete(l.clients, key)
	}
}

// site is what counts as one client: a host has all addresses of its IPv6 network.
func site(client netip.Addr) netip.Addr {
	if client.Is4() {
		return client
	}
	return netip.PrefixFrom(client.WithZone(""), 64).Masked().Addr()
}

func owned(port uint16, owner string) error {
	return fmt.Errorf("port %d is the port of %s on this node; give the ingress another one", port, owner)
}

// inUse says what to do about a port that can't be opened.
func inUse(port uint16, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d: %w; it is opened when the program or ingress that has it lets go (ss -lntp)", port, syscall.EADDRINUSE)
	}
	if err != nil {
		return fmt.Errorf("port %d: %w", port, err)
	}
	return nil
}

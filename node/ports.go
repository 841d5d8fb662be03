// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"tacit/redirect/sockdiag"

	"tacit/redirect"
)

// port is a place where the daemon waits for others.
type port struct {
	name string
	udp  bool
	at   netip.AddrPort
}

func (p port) String() string {
	if p.udp {
		return fmt.Sprintf("%s (udp %s)", p.name, p.at)
	}
	return fmt.Sprintf("%s (tcp %s)", p.name, p.at)
}

// ports are all of them but the names', which can be opened elsewhere.
func (n *Node) ports() []port {
	at := netip.AddrPortFrom(n.cfg.addr, n.cfg.GossipPort)
	out := []port{{"lane port", false, netip.AddrPortFrom(n.cfg.addr, n.cfg.LanePort)},
		{"gossip port", false, at}, {"gossip port", true, at}}
	port4, port6 := n.listeningPorts()
	dns4, dns6 := n.resolvers.foreignPorts()
	for i, p := range []uint16{port4, port6, dns4, dns6} {
		if p == 0 {
			continue
		}
		at := netip.AddrPortFrom(loopbacks()[i%2], p)
		if i < 2 {
			out = append(out, port{"captured connections", false, at})
			continue
		}
		out = append(out, port{"names of other namespaces", false, at}, port{"names of other namespaces", true, at})
	}
	return out
}

func loopbacks() [2]netip.Addr {
	return [2]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
}

// watchPorts asks the kernel whose sockets are where ours must be: exactly one
// each, made in the daemon's cgroup.
func (n *Node) watchPorts() {
	bound, err := sockdiag.BoundSockets()
	if err != nil {
		n.problems.set(portsCheck, err)
		return
	}
	var bad []string
	for _, p := range n.ports() {
		if err := n.holds(bound, p); err != nil {
			bad = append(bad, err.Error())
		}
	}
	for _, lost := range n.resolvers.lost(func(p port) bool { return n.holds(bound, p) != nil }) {
		n.log.Warn("a listener for names was closed by others; opening it again", "resolver", lost)
		n.repairs.note("listener for the names of "+lost.String(), "closed by others")
		if err := n.resolvers.renew(lost); err != nil {
			bad = append(bad, err.Error())
		}
	}
	if len(bad) > 0 {
		err = errors.New(strings.Join(bad, "; "))
	}
	n.problems.set(portsCheck, err)
}

// holds is nil when what arrives at p arrives at the daemon.
func (n *Node) holds(b sockdiag.Bound, p port) error {
	list := b.TCP
	if p.udp {
		list = b.UDP
	}
	ours := 0
	for _, s := range list {
		switch {
		case !s.Reaches(p.at):
		case n.made(s.CgroupID):
			ours++
		default:
			return fmt.Errorf("%s is held by another program: uid %d, cgroup %d; ss -lnp says which", p, s.UID, s.CgroupID)
		}
	}
	if ours != 1 {
		return fmt.Errorf("%s: the daemon has %d sockets there instead of one: others have closed it, restart tacitd", p, ours)
	}
	return nil
}

// made says whether a cgroup is or was the daemon's own.
func (n *Node) made(cgroup uint64) bool {
	_, was := n.daemonIDs.Load(cgroup)
	return was
}

// lost are the resolvers of which a listener is gone.
func (r *resolvers) lost(gone func(port) bool) []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []netip.Addr
	for _, one := range r.list {
		for i, p := range one.ports {
			at := netip.AddrPortFrom(loopbacks()[i], p)
			if p != 0 && (gone(port{"names", false, at}) || gone(port{"names", true, at})) {
				out = append(out, one.addr)
				break
			}
		}
	}
	return out
}

// renew opens the listeners for one resolver anew.
func (r *resolvers) renew(addr netip.Addr) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.list[:0:0]
	for _, one := range r.list {
		if one.addr == addr {
			one.cancel()
		} else {
			kept = append(kept, one)
		}
	}
	r.list = kept
	if err := r.add(addr); err != nil {
		return err
	}
	return r.tellHooks()
}

// listeningPorts are where captured connections arrive; 0 is nowhere.
func (n *Node) listeningPorts() (v4, v6 uint16) {
	n.steering.Lock()
	defer n.steering.Unlock()
	return n.listeners.Ports()
}

// reopenLanes opens the lane port again.
func (n *Node) reopenLanes() (net.Listener, error) {
	return listenTCP(context.Background(), n.cfg.addr, n.cfg.LanePort)
}

// reopenCaptured opens a listener for captured connections, and tells hooks and
// rules where it is.
func (n *Node) reopenCaptured(v6 bool) (net.Listener, error) {
	fresh, err := redirect.ListenCaptured(context.Background(), v6)
	if err != nil {
		return nil, err
	}
	n.steering.Lock()
	if v6 {
		n.listeners.TCP6 = fresh
	} else {
		n.listeners.TCP4 = fresh
	}
	err = n.tellHooks()
	n.steering.Unlock()
	return fresh, errors.Join(err, n.restate(), n.serving())
}

// lastingly makes a listener last, and status tell of it.
func (n *Node) lastingly(name string, now net.Listener, open func() (net.Listener, error)) *lasting {
	return newLasting(now, open, func(err error) {
		n.problems.set(name, err)
		if err == nil {
			n.log.Warn("a listener was closed by others; open again", "listener", name)
			n.repairs.note(name, "closed by others")
		}
	})
}

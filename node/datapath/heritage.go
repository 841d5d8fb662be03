// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"syscall"

	"tacit/redirect/listen"
)

// Hold has this datapath repair nothing until Resume: another daemon takes over. It
// goes on to answer.
func (d *Datapath) Hold() { d.holding.Lock() }

// Resume undoes Hold.
func (d *Datapath) Resume() { d.holding.Unlock() }

// Sockets are the listeners, by the names under which another daemon's Open finds them.
func (d *Datapath) Sockets() map[string]syscall.Conn {
	out := map[string]syscall.Conn{}
	for i, name := range []string{listen.Captured4, listen.Captured6} {
		if d.captured[i] == nil {
			continue
		}
		if socket, ok := d.captured[i].Socket(); ok {
			out[name] = socket
		}
	}
	maps.Copy(out, d.resolvers.sockets())
	return out
}

func directName(v6 bool) string { return "names of other namespaces " + family(v6) }

func resolverName(addr netip.Addr, v6 bool) string {
	return "names of " + addr.String() + " " + family(v6)
}

func (r *resolvers) sockets() map[string]syscall.Conn {
	out := map[string]syscall.Conn{}
	for i, ln := range r.direct {
		if ln != nil {
			maps.Copy(out, ln.Sockets(directName(i == 1)))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.list {
		maps.Copy(out, one.sockets)
	}
	return out
}

// listenFor takes the inherited listeners for one resolver, or opens them.
func (r *resolvers) listenFor(ctx context.Context, one *resolver, host netip.Addr) (net.PacketConn, net.Listener, error) {
	name := resolverName(one.addr, host.Is6())
	udp, tcp := r.inherited.UDP(name+" UDP"), r.inherited.TCP(name+" TCP")
	if udp == nil || tcp == nil {
		var err error
		if udp, tcp, err = listenBoth(ctx, host); err != nil {
			return nil, nil, err
		}
	}
	one.sockets[name+" UDP"], one.sockets[name+" TCP"] = udp, tcp
	return udp, tcp, nil
}

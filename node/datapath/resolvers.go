// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"tacit/bpf"
	"tacit/node/dns"
	"tacit/node/health"
	"tacit/redirect/links"
	"tacit/redirect/listen"
)

// resolvers are the host's name servers. For each of them the daemon has
// listeners of its own, to which the hooks send the resolver's queries.
type resolvers struct {
	conf    Config
	changed func() error       // rules follow the resolvers
	direct  [2]*listen.DNSPair // IPv4, IPv6: queries of other network namespaces
	group   *errgroup.Group
	ctx     context.Context // of the listeners
	cancel  context.CancelFunc

	inherited *listen.Inherited

	mu     sync.Mutex
	list   []*resolver
	ended  bool // run has ended: nothing is opened any more
	suffix []string
}

type resolver struct {
	addr   netip.Addr
	ports  [2]uint16 // IPv4, IPv6; 0: no listener
	cancel context.CancelFunc

	sockets map[string]syscall.Conn // by the names for another daemon
}

func newResolvers(c Config, changed func() error) *resolvers {
	return &resolvers{conf: c, changed: changed, group: &errgroup.Group{}, cancel: func() {}}
}

// open reads resolv.conf once, so that names are captured before routes are.
func (r *resolvers) open(ctx context.Context, from *listen.Inherited) error {
	r.inherited = from
	ctx, r.cancel = context.WithCancel(ctx)
	r.group, r.ctx = errgroup.WithContext(ctx)
	for i, v6 := range []bool{false, true} {
		if v6 && !links.HasIPv6() {
			break
		}
		if r.direct[i] = listen.InheritedDNS(ctx, directName(v6), v6, from); r.direct[i] != nil {
			continue
		}
		ln, err := listen.DNS(ctx, v6)
		if err != nil {
			return err
		}
		r.direct[i] = ln
	}
	return r.reload()
}

// close closes all listeners, and returns when nobody serves them any more.
func (r *resolvers) close() {
	r.cancel()
	for _, ln := range r.direct {
		if ln != nil {
			_ = ln.Close() // run has closed it, where it ran
		}
	}
	_ = r.group.Wait() // run returns its error
}

// run follows resolv.conf until ctx ends, or a listener fails.
func (r *resolvers) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, r.cancel)
	defer stop()
	ctx = r.ctx
	for _, ln := range r.direct {
		if ln != nil {
			r.group.Go(func() error { return r.answerUDP(ctx, ln.UDP) })
			r.group.Go(func() error { return r.answerTCP(ctx, ln.TCP) })
		}
	}
	r.group.Go(func() error {
		return dns.Watch(ctx, r.conf.Settings.ResolvConf, func() {
			r.conf.Health.Set(health.Resolvers, "", errors.Join(r.reload(), r.changed()))
			r.conf.Changed(false) // search suffixes are part of the kernel's names
		})
	})
	r.group.Go(func() error {
		<-ctx.Done()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended = true // before Wait returns, so that nobody adds to the group meanwhile
		return nil
	})
	return r.group.Wait()
}

// reload makes the listeners equal to what resolv.conf names.
func (r *resolvers) reload() error {
	addrs, search, err := dns.Resolvers(r.conf.Settings.ResolvConf)
	if err != nil {
		return err
	}
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return r.conf.Settings.Exclude.Covers(netip.AddrPortFrom(a, 53)) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return nil
	}
	r.suffix = search
	for _, addr := range addrs {
		if slices.ContainsFunc(r.list, func(one *resolver) bool { return one.addr == addr }) {
			continue
		}
		if err := r.add(addr); err != nil {
			return err
		}
	}
	r.keep(func(one *resolver) bool { return slices.Contains(addrs, one.addr) })
	return r.tellHooks()
}

// keep closes the listeners of all other resolvers. The caller holds mu.
func (r *resolvers) keep(stays func(*resolver) bool) {
	r.list = slices.DeleteFunc(r.list, func(one *resolver) bool {
		if stays(one) {
			return false
		}
		one.cancel()
		return true
	})
}

// renew opens the listeners for one resolver again. Where that fails, the lost
// ones stay on the list, so that they are found and opened later.
func (r *resolvers) renew(addr netip.Addr) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return nil
	}
	lost := slices.Clone(r.list)
	if err := r.add(addr); err != nil {
		return err
	}
	r.keep(func(one *resolver) bool { return one.addr != addr || !slices.Contains(lost, one) })
	return r.tellHooks()
}

// add opens the listeners for one resolver; UDP and TCP share a port number.
// The caller holds mu.
func (r *resolvers) add(addr netip.Addr) error {
	ctx, cancel := context.WithCancel(r.ctx)
	one := &resolver{addr: addr, cancel: cancel, sockets: map[string]syscall.Conn{}}
	for i, host := range links.Loopbacks() {
		if i == 1 && !links.HasIPv6() {
			break
		}
		udp, tcp, err := r.listenFor(ctx, one, host)
		if err != nil {
			cancel() // closes the IPv4 pair too
			return fmt.Errorf("listener for the queries to %s: %w", addr, err)
		}
		one.ports[i] = portOf(tcp)
		r.group.Go(func() error { return r.conf.Names.Serve(ctx, udp, tcp, netip.AddrPortFrom(addr, 53)) })
	}
	r.list = append(r.list, one)
	return nil
}

// tellHooks hands the listeners to the programs. The caller holds mu.
func (r *resolvers) tellHooks() error {
	var out []bpf.Resolver
	for _, one := range r.list {
		out = append(out, bpf.Resolver{Addr: one.addr, Port4: one.ports[0], Port6: one.ports[1]})
	}
	return r.conf.Hooks.SetResolvers(out)
}

func (r *resolvers) addrs() []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []netip.Addr
	for _, one := range r.list {
		out = append(out, one.addr)
	}
	return out
}

func (r *resolvers) search() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.suffix)
}

// directPorts are where queries of other network namespaces arrive; 0: nowhere.
func (r *resolvers) directPorts() (v4, v6 uint16) {
	v4 = r.direct[0].Port()
	if r.direct[1] != nil {
		v6 = r.direct[1].Port()
	}
	return v4, v6
}

// lost are the resolvers of which a listener is gone.
func (r *resolvers) lost(gone func(port) bool) []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []netip.Addr
	for _, one := range r.list {
		for i, p := range one.ports {
			at := netip.AddrPortFrom(links.Loopbacks()[i], p)
			if p != 0 && (gone(port{"names", false, at}) || gone(port{"names", true, at})) {
				out = append(out, one.addr)
				break
			}
		}
	}
	return out
}

// listenBoth opens UDP and TCP on one free port of host.
func listenBoth(ctx context.Context, host netip.Addr) (*net.UDPConn, *net.TCPListener, error) {
	var last error
	for range 20 { // the port may be taken for UDP
		tcp, err := listen.Plain(ctx, netip.AddrPortFrom(host, 0))
		if err != nil {
			return nil, nil, err
		}
		var lc net.ListenConfig
		udp, err := lc.ListenPacket(ctx, "udp", tcp.Addr().String())
		if err == nil {
			return udp.(*net.UDPConn), tcp, nil // "udp" gives no other
		}
		last = errors.Join(err, tcp.Close())
	}
	return nil, nil, last
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"tacit/bpf"
	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/dns"
	"tacit/policy/kernel"
	"tacit/redirect"
)

// zone answers names from the catalog.
type zone struct{ n *Node }

// Lookup returns the virtual addresses of a service that can be called.
func (z zone) Lookup(name identity.Name) (v4, v6 netip.Addr, port uint16, ok bool) {
	if v4, v6, ok := z.n.trials.lookup(name); ok {
		return v4, v6, 0, true
	}
	cat := z.n.catalog.Load()
	if !cat.Known(name) {
		return netip.Addr{}, netip.Addr{}, 0, false
	}
	v4, v6 = z.n.virtual(name)
	return v4, v6, cat.DefaultPort(name), v4.IsValid()
}

// virtual returns the service's virtual addresses; invalid ones when its
// number can't be kept or the range is used up.
func (n *Node) virtual(name identity.Name) (v4, v6 netip.Addr) {
	number := n.numbers.Number(name)
	if number == 0 {
		return netip.Addr{}, netip.Addr{}
	}
	if v6 = kernel.Virtual6(n.cfg.Range6, number); !hasIPv6() {
		v6 = netip.Addr{}
	}
	return kernel.Virtual4(n.cfg.Range4, number), v6
}

// resolvers are the host's name servers, each with a listener of ours that
// the hooks send its queries to.
type resolvers struct {
	n      *Node
	mu     sync.Mutex
	list   []*resolver
	suffix []string
	group  *errgroup.Group
	ctx    context.Context
	cancel context.CancelFunc
	direct [2]*redirect.DNSListener // v4, v6: queries of other network namespaces
}

type resolver struct {
	addr   netip.Addr
	ports  [2]uint16 // v4, v6
	cancel context.CancelFunc
}

func newResolvers(n *Node) *resolvers { return &resolvers{n: n} }

// start reads resolv.conf once, so that names are captured before routes are.
func (r *resolvers) start(ctx context.Context) error {
	ctx, r.cancel = context.WithCancel(ctx)
	r.group, r.ctx = errgroup.WithContext(ctx)
	for i, v6 := range []bool{false, true} {
		if v6 && !hasIPv6() {
			break
		}
		ln, err := redirect.ListenDNS(ctx, v6)
		if err != nil {
			return err
		}
		r.direct[i] = ln
	}
	return r.reload()
}

// run follows resolv.conf until ctx ends, or a listener of ours does.
func (r *resolvers) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, r.cancel)
	defer stop()
	ctx = r.ctx
	for _, ln := range r.direct {
		if ln != nil {
			r.group.Go(func() error { return r.n.serveForeignUDP(ctx, ln.UDP) })
			r.group.Go(func() error { return r.n.serveForeignTCP(ctx, ln.TCP) })
		}
	}
	r.group.Go(func() error {
		return dns.Watch(ctx, r.n.cfg.ResolvConf, func() {
			r.n.problems.set("resolv.conf", errors.Join(r.reload(), r.n.restate()))
		})
	})
	return r.group.Wait()
}

// reload makes the listeners equal to what resolv.conf names.
func (r *resolvers) reload() error {
	addrs, search, err := dns.Resolvers(r.n.cfg.ResolvConf)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.suffix = search
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return r.n.cfg.Exclude.covers(netip.AddrPortFrom(a, 53)) })
	kept := r.list[:0:0]
	for _, old := range r.list {
		if slices.Contains(addrs, old.addr) {
			kept = append(kept, old)
		} else {
			old.cancel()
		}
	}
	r.list = kept
	for _, addr := range addrs {
		if slices.ContainsFunc(r.list, func(o *resolver) bool { return o.addr == addr }) {
			continue
		}
		if err := r.add(addr); err != nil {
			return err
		}
	}
	return r.tellHooks()
}

// add opens the listeners for one resolver; UDP and TCP share a port number.
func (r *resolvers) add(addr netip.Addr) error {
	ctx, cancel := context.WithCancel(r.ctx)
	one := &resolver{addr: addr, cancel: cancel}
	for i, host := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		if i == 1 && !hasIPv6() {
			break
		}
		udp, tcp, err := listenBoth(ctx, host)
		if err != nil {
			cancel() // ends the IPv4 pair, too
			return fmt.Errorf("listener for the names that go to %s: %w", addr, err)
		}
		one.ports[i] = portOf(tcp)
		r.group.Go(func() error { return r.n.dns.Serve(ctx, udp, tcp, netip.AddrPortFrom(addr, 53)) })
	}
	r.list = append(r.list, one)
	return nil
}

func (r *resolvers) tellHooks() error {
	var out []bpf.Resolver
	for _, one := range r.list {
		out = append(out, bpf.Resolver{Addr: one.addr, Port4: one.ports[0], Port6: one.ports[1]})
	}
	return r.n.objects.SetResolvers(out)
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

// foreignPorts are where TPROXY sends the queries of other namespaces; 0 is nowhere.
func (r *resolvers) foreignPorts() (v4, v6 uint16) {
	v4 = r.direct[0].Port()
	if r.direct[1] != nil {
		v6 = r.direct[1].Port()
	}
	return v4, v6
}

func (n *Node) search() []string {
	n.resolvers.mu.Lock()
	defer n.resolvers.mu.Unlock()
	return slices.Clone(n.resolvers.suffix)
}

// meshNames are the names that must not be asked of other resolvers: the mesh's
// domains with all below them, and each service's own name, alone and with the
// host's search suffixes.
func (n *Node) meshNames(cat *catalog.Catalog) (domains, hosts []string) {
	search := n.search()
	for _, svc := range cat.Services() {
		hosts = append(hosts, string(svc))
		for _, suffix := range search {
			hosts = append(hosts, string(svc)+"."+suffix)
		}
	}
	return append([]string{"consul"}, n.cfg.Domains...), hosts
}

// listenBoth opens UDP and TCP on one free port of host.
func listenBoth(ctx context.Context, host netip.Addr) (net.PacketConn, net.Listener, error) {
	var last error
	for range 20 {
		tcp, err := listenTCP(ctx, host, 0)
		if err != nil {
			return nil, nil, err
		}
		var lc net.ListenConfig
		udp, err := lc.ListenPacket(ctx, "udp", tcp.Addr().String())
		if err == nil {
			return udp, tcp, nil
		}
		last = errors.Join(err, tcp.Close())
	}
	return nil, nil, last
}

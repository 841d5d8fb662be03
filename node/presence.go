// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/redirect"
)

// presence knows at which addresses nodes are. A node says so itself, in its
// record; but calls to a real address are captured only where the node has
// proven, by a handshake on its lane port there, that the address is its own:
// else it could draw calls to any host of the world to itself.
type presence struct {
	mu     sync.Mutex
	proven map[identity.Name][]netip.Addr
	here   map[netip.Addr]net.Listener // lane ports at this node's further addresses
	opened chan net.Listener
}

// provingInterval is how often addresses that aren't proven are tried again.
const provingInterval = 5 * time.Second

// setProven and setRemotes are the settings with the addresses that nodes have
// proven, and with the instances' ones in force: until they are proven again
// after a start, or at a boot before the daemon is there, they stay judged.
const (
	setProven  = "proven"
	setRemotes = "remotes"
)

// loadPresence reads what an earlier daemon kept.
func (n *Node) loadPresence() error { return n.load(setProven, &n.presence.proven) }

// of returns the proven addresses where an instance is called.
func (p *presence) of(in catalog.Instance) []netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in.Address == "" {
		return slices.Clone(p.proven[in.Node])
	}
	return slices.DeleteFunc(slices.Clone(p.proven[in.Node]), func(a netip.Addr) bool { return a != in.Addr.Addr() })
}

// open listens on the lane port at this node's further addresses, and returns
// those where it does.
func (p *presence) open(n *Node) []netip.Addr {
	addrs, err := redirect.Siblings(n.cfg.addr)
	n.problems.set("lane ports", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.here == nil {
		p.here, p.opened = map[netip.Addr]net.Listener{}, make(chan net.Listener, maxSiblings)
	}
	for addr, ln := range p.here {
		if err == nil && !slices.Contains(addrs, addr) {
			_ = ln.Close()
			delete(p.here, addr)
		}
	}
	for _, addr := range addrs {
		if len(p.here) == maxSiblings {
			break
		}
		p.openOne(n, addr)
	}
	return slices.SortedFunc(maps.Keys(p.here), netip.Addr.Compare)
}

// maxSiblings is how many further addresses a node speaks of.
const maxSiblings = 32

func (p *presence) openOne(n *Node, addr netip.Addr) {
	if p.here[addr] != nil {
		return
	}
	ln, err := listenTCP(context.Background(), addr, n.cfg.LanePort)
	if err != nil {
		n.log.Warn("calls to this address of ours are not captured on other nodes", "address", addr, "err", err)
		return
	}
	select {
	case p.opened <- ln:
		p.here[addr] = ln
	default:
		_ = ln.Close() // the next announcement tries again
	}
}

// servePresence serves the lane port at further addresses.
func (n *Node) servePresence(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for {
		select {
		case <-ctx.Done():
			n.presence.close()
			return g.Wait()
		case ln := <-n.presence.opened:
			g.Go(func() error {
				_ = n.serveLanes(ctx, ln) // ends when the address goes
				return nil
			})
		}
	}
}

func (p *presence) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ln := range p.here {
		_ = ln.Close()
	}
}

// findNodes proves the addresses of other nodes as their records come.
func (n *Node) findNodes(ctx context.Context) error {
	tick := time.NewTicker(provingInterval)
	defer tick.Stop()
	for {
		if n.presence.prove(ctx, n) {
			n.problems.set("proven addresses", n.keep(setProven, n.presence.proven)) // nobody else changes it
			n.nudge()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-n.found:
		}
	}
}

// prove tries the addresses in the nodes' records that aren't proven, and
// forgets those that are no longer in them. It says whether anything changed.
func (p *presence) prove(ctx context.Context, n *Node) (changed bool) {
	up, now := n.alive(), map[identity.Name][]netip.Addr{}
	for _, m := range n.member.ledger.Members() {
		host, ok := n.member.ledger.Node(m.Node)
		if !ok || m.Node == n.cfg.name {
			continue
		}
		for _, text := range append([]string{host.Address}, host.Also...) {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				continue
			}
			addr = addr.Unmap()
			if p.has(m.Node, addr) || up[m.Node] && n.isAt(ctx, m.Node, netip.AddrPortFrom(addr, host.LanePort)) {
				now[m.Node] = append(now[m.Node], addr)
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	changed = !maps.EqualFunc(p.proven, now, slices.Equal)
	p.proven = now
	return changed
}

func (p *presence) has(node identity.Name, addr netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.proven[node], addr)
}

// isAt says whether the node answers at that address, by its key.
func (n *Node) isAt(ctx context.Context, node identity.Name, at netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conf := identity.ClientTLS(n.wallet, identity.ALPNHere, identity.NodeID(n.member.bundle.TrustDomain(), node), n.checkPeer)
	d := tls.Dialer{NetDialer: &net.Dialer{}, Config: conf}
	d.NetDialer.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		n.log.Debug("a node isn't where its record says", "node", node, "address", at, "err", err)
		return false
	}
	_ = conn.Close()
	return true
}

// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/health"
)

const (
	keepingInterval = 5 * time.Second // between two attempts to keep what is proven
	maxProving      = 8               // addresses that are tried at once
)

// setProven is the setting with the addresses that nodes have proven: after a
// start or a boot they count until they are out of the records.
const setProven = "proven"

// proven knows at which addresses nodes are. A node says so itself, in its
// record; but calls to a real address are captured only where the node has
// proven, by a handshake on its lane port there, that the address is its own:
// otherwise it could draw the calls to any host to itself.
type proven struct {
	mu sync.Mutex
	at map[identity.Name][]netip.Addr
}

func (p *proven) load(st Store) error {
	text, err := st.Get(setProven)
	if err != nil || len(text) == 0 {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := json.Unmarshal(text, &p.at); err != nil {
		return fmt.Errorf("state: %s: %w", setProven, err)
	}
	return nil
}

func (p *proven) keep(st Store) error {
	p.mu.Lock()
	text, err := json.Marshal(p.at)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return st.Set(setProven, text)
}

func (p *proven) of(node identity.Name) []netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.at[node])
}

func (p *proven) replace(now map[identity.Name][]netip.Addr) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed = !maps.EqualFunc(p.at, now, slices.Equal)
	p.at = now
	return changed
}

// Of returns the proven addresses where an instance is called.
func (p *Peers) Of(in catalog.Instance) []netip.Addr {
	all := p.proven.of(in.Node)
	if in.Address == "" {
		return all
	}
	return slices.DeleteFunc(all, func(a netip.Addr) bool { return a != in.Addr.Addr() })
}

// Found says that nodes or their records changed.
func (p *Peers) Found() {
	select {
	case p.found <- struct{}{}:
	default:
	}
}

// keepProving tries the addresses of other nodes as their records come, and
// again while one of them isn't proven or what is proven isn't kept.
func (p *Peers) keepProving(ctx context.Context) error {
	kept := true
	for {
		pending, changed := p.prove(ctx)
		if changed || !kept {
			err := p.proven.keep(p.conf.Store)
			p.conf.Health.Set(health.Proven, "", err)
			kept = err == nil
		}
		if changed {
			p.conf.Changed()
		}
		var again <-chan time.Time
		switch {
		case !kept:
			again = time.After(keepingInterval)
		case pending:
			again = time.After(p.tries.pause(time.Now()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again:
		case <-p.found:
		}
	}
}

// claim is an address that a node's record gives.
type claim struct {
	node identity.Name
	at   netip.AddrPort
}

// claims of the other members.
func (p *Peers) claims() []claim {
	var out []claim
	for _, m := range p.conf.Roll.Members() {
		host, ok := p.conf.Roll.Node(m.Node)
		if !ok || m.Node == p.conf.Settings.Name {
			continue
		}
		for _, text := range append([]string{host.Address}, host.Also...) {
			if addr, err := netip.ParseAddr(text); err == nil {
				out = append(out, claim{m.Node, netip.AddrPortFrom(addr.Unmap(), host.LanePort)})
			}
		}
	}
	return out
}

// prove tries the claims that aren't proven and are due, and forgets proven addresses that
// no record claims any more. Pending: a node that answers hasn't proven all.
func (p *Peers) prove(ctx context.Context) (pending, changed bool) {
	claims, up := p.claims(), p.conf.Alive()
	p.tries.begin(claims, up)
	holds, tried := make([]bool, len(claims)), make([]bool, len(claims))
	var g errgroup.Group
	g.SetLimit(maxProving)
	for i, c := range claims {
		holds[i] = slices.Contains(p.proven.of(c.node), c.at.Addr())
		if !holds[i] && up[c.node] && p.tries.may(c, time.Now()) {
			tried[i] = true
			g.Go(func() error {
				holds[i] = p.isAt(ctx, c)
				return nil
			})
		}
	}
	_ = g.Wait() // none of them fails
	now := map[identity.Name][]netip.Addr{}
	for i, c := range claims {
		switch {
		case holds[i]:
			p.tries.succeeded(c)
			now[c.node] = append(now[c.node], c.at.Addr())
		case tried[i]:
			p.tries.failed(c, time.Now())
		}
		pending = pending || !holds[i] && up[c.node]
	}
	return pending, p.proven.replace(now)
}

// isAt says whether the node answers there, by its key.
func (p *Peers) isAt(ctx context.Context, c claim) bool {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	expect := identity.NodeID(p.conf.Identities.Bundle().TrustDomain(), c.node)
	d := tls.Dialer{NetDialer: &net.Dialer{}, Config: identity.ClientTLS(p.conf.Identities, identity.ALPNHere, expect, p.conf.Check)}
	d.NetDialer.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, "tcp", c.at.String())
	if err != nil {
		p.conf.Log.Debug("a node isn't where its record says", "node", c.node, "address", c.at, "err", err)
		return false
	}
	_ = conn.Close()
	return true
}

// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"tacit/node/health"
	"tacit/redirect/links"
	"tacit/redirect/listen"
)

// maxFurther is how many addresses a node announces besides its first: the
// ledger refuses a record with more.
const maxFurther = 32

// further are the lane ports at this node's further addresses.
type further struct {
	siblings func(netip.Addr) ([]netip.Addr, error)
	opened   chan listener // to be served

	mu sync.Mutex // guards at
	at map[netip.Addr]listener
}

type listener struct {
	*listen.Reopening
	name string // in health
	addr netip.Addr
}

func newFurther() further {
	return further{siblings: links.Siblings, opened: make(chan listener, maxFurther), at: map[netip.Addr]listener{}}
}

// Addresses are the further addresses of this node where its lane port listens:
// it is opened at those that are new, and closed at those that are gone.
func (p *Peers) Addresses() []netip.Addr {
	now, err := p.further.siblings(p.conf.Settings.Addr)
	p.conf.Health.Set(health.LanePorts, "", err)
	p.further.mu.Lock()
	defer p.further.mu.Unlock()
	if err == nil {
		p.closeOthers(now)
	}
	for _, addr := range now {
		if _, open := p.further.at[addr]; !open && len(p.further.at) < maxFurther {
			p.openAt(addr)
		}
	}
	return slices.SortedFunc(maps.Keys(p.further.at), netip.Addr.Compare)
}

// closeOthers closes the listeners at all addresses but those of now. The
// caller holds further.mu.
func (p *Peers) closeOthers(now []netip.Addr) {
	for addr, ln := range p.further.at {
		if !slices.Contains(now, addr) {
			_ = ln.Close()
			p.conf.Health.Set(health.Listener, ln.name, nil)
			delete(p.further.at, addr)
		}
	}
}

// openAt opens the lane port at one more address. The caller holds further.mu.
func (p *Peers) openAt(addr netip.Addr) {
	at, name := netip.AddrPortFrom(addr, p.port.Port()), lanePort+" at "+addr.String()
	raw := p.conf.Inherited.TCP(name)
	if raw == nil {
		var err error
		if raw, err = listen.Plain(context.Background(), at); err != nil {
			p.conf.Log.Warn("the lane port can't be opened at a further address: other nodes won't capture calls to it", "address", addr, "err", err)
			return
		}
	}
	ln := listener{p.reopening(name, raw, at), name, addr}
	select {
	case p.further.opened <- ln:
		p.further.at[addr] = ln
	default:
		_ = ln.Close() // too many at once: the next call opens it
	}
}

// serveFurther serves the lane port at further addresses as they come.
func (p *Peers) serveFurther(ctx context.Context) error {
	var g errgroup.Group
	for {
		select {
		case <-ctx.Done():
			p.closeFurther()
			return g.Wait()
		case ln := <-p.further.opened:
			g.Go(func() error {
				p.serveOne(ctx, ln)
				return nil
			})
		}
	}
}

// serveOne ends when the address goes; where the listener fails, the next call
// of Addresses opens another.
func (p *Peers) serveOne(ctx context.Context, ln listener) {
	err := p.serve(ctx, ln)
	if err == nil || errors.Is(err, net.ErrClosed) {
		return
	}
	p.conf.Log.Warn("the lane port at a further address failed", "address", ln.addr, "err", err)
	p.further.mu.Lock()
	defer p.further.mu.Unlock()
	if p.further.at[ln.addr] == ln {
		delete(p.further.at, ln.addr)
	}
}

// Sockets are the listeners, by the names under which another daemon finds them.
func (p *Peers) Sockets() map[string]syscall.Conn {
	out := map[string]syscall.Conn{}
	add := func(name string, ln *listen.Reopening) {
		if socket, ok := ln.Socket(); ok {
			out[name] = socket
		}
	}
	add(lanePort, p.lanes)
	p.further.mu.Lock()
	defer p.further.mu.Unlock()
	for _, ln := range p.further.at {
		add(ln.name, ln.Reopening)
	}
	return out
}

func (p *Peers) closeFurther() {
	p.further.mu.Lock()
	defer p.further.mu.Unlock()
	for _, ln := range p.further.at {
		_ = ln.Close()
	}
}

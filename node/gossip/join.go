// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"time"
)

const (
	healInterval = time.Second
	healAtOnce   = 4 // concurrent, since a stopped process accepts but doesn't answer
	welcomers    = 4 // members, of all, that contact one that has come back
)

// errNoAddress means that Join got no address.
var errNoAddress = errors.New("no address to join: give host or host:port")

// Join exchanges state with each address in turn: host, host:port, IP, or [IP]:port;
// the default port is this node's gossip port. It succeeds when one of them answers;
// else the error says what was wrong with each.
func (p *Pool) Join(ctx context.Context, addrs []string) error {
	if len(addrs) == 0 {
		return errNoAddress
	}
	var failed error
	joined := false
	for _, addr := range addrs {
		err := p.joinOne(ctx, addr)
		switch {
		case err == nil:
			joined = true
		case failed == nil:
			failed = err
		default:
			failed = fmt.Errorf("%w; %w", failed, err)
		}
	}
	if !joined {
		return failed
	}
	if failed != nil {
		p.log.Warn("joined, but some addresses did not answer", "error", failed)
	}
	return nil
}

func (p *Pool) joinOne(ctx context.Context, addr string) error {
	targets, err := p.resolve(ctx, addr)
	if err != nil {
		return err
	}
	for _, target := range targets {
		if err = p.exchange(ctx, addr, target); err == nil {
			return nil
		}
	}
	return err
}

// exchange does one push/pull. When ctx ends first, the attempt continues in the
// background until it fails or the pool closes.
func (p *Pool) exchange(ctx context.Context, shown string, target netip.AddrPort) error {
	done := make(chan error, 1)
	p.life.Lock()
	if p.closed.Load() {
		p.life.Unlock()
		return ErrClosed
	}
	p.wait.Go(func() {
		// RequireNodeNames needs a name; the seed's isn't known yet.
		_, err := p.list.Join([]string{"seed/" + target.String()})
		done <- err
	})
	p.life.Unlock()
	select {
	case err := <-done:
		if err != nil {
			return joinError(shown, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("join %s: %w", shown, ctx.Err())
	}
}

func (p *Pool) resolve(ctx context.Context, addr string) ([]netip.AddrPort, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		host, text = addr, strconv.Itoa(int(p.addr.Port()))
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 || host == "" {
		return nil, fmt.Errorf("join %q: want host or host:port", addr)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("join %s: %w", addr, err)
	}
	out := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		out[i] = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	}
	return out, nil
}

// heal exchanges state with dead members, so that the halves of a partition find
// each other again (memberlist drops dead members), and with members that came
// back by themselves, which may know no other node.
func (p *Pool) heal() {
	tick := time.NewTicker(healInterval)
	defer tick.Stop()
	busy := make(chan struct{}, healAtOnce)
	for {
		members := p.toContact()
		for _, m := range members {
			p.contact(m, busy)
		}
		if len(members) == 0 {
			tick.Stop() // until a member's state changes
		} else {
			tick.Reset(healInterval)
		}
		select {
		case <-tick.C:
		case <-p.healing:
		case <-p.ctx.Done():
			return
		}
	}
}

// toContact picks the members to contact now: some of the dead, and this node's share
// of those that came back.
func (p *Pool) toContact() []Member {
	if p.left.Load() {
		return nil
	}
	var out []Member
	for _, m := range p.table.returned() {
		if m.Name != p.cfg.Name && rand.IntN(max(1, p.table.alive())) < welcomers {
			out = append(out, m)
		}
	}
	dead := p.table.others(p.cfg.Name, false)
	rand.Shuffle(len(dead), func(i, j int) { dead[i], dead[j] = dead[j], dead[i] })
	return append(out, dead[:min(len(dead), healAtOnce)]...)
}

// contact does one push/pull with m in the background, unless too many are running.
func (p *Pool) contact(m Member, busy chan struct{}) {
	if p.cfg.Delegate.Admit(m.Name, m.Addr) != nil {
		return
	}
	select {
	case busy <- struct{}{}:
	default:
		return
	}
	p.wait.Go(func() {
		defer func() { <-busy }()
		_, _ = p.list.Join([]string{string(m.Name) + "/" + m.Addr.String()})
	})
}

// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"tacit/identity"
)

const (
	exchangeInterval = 15 * time.Second // between two exchanges with some live member; longer in large meshes
	firstWait        = 100 * time.Millisecond
	longestWait      = 5 * time.Second // between two attempts at a lost member: for ever, and at most so long after contact
	healAtOnce       = 8               // attempts; a silent host takes one for some seconds
	welcomers        = 4               // members, of all, that contact one that has come back
)

// Seed is where a member may be.
type Seed struct {
	Name identity.Name // "": whoever answers there; only tried while this node is alone
	Addr string        // host:port
}

// attempts at one seed.
type attempts struct {
	failed  int
	next    time.Time
	running bool
}

// heal exchanges state with all that should be members and aren't alive, for ever, so
// that the halves of a partition find each other again, however long it lasted; with
// members that came back by themselves, which may know no other node; and now and then
// with any live member, since packets get lost.
func (p *Pool) heal() {
	regular := p.now().Add(jitter(p.exchangeEvery()))
	for {
		for _, m := range p.welcome() {
			p.contact(Seed{m.Name, m.Addr.String()})
		}
		wait := p.seek()
		if now := p.now(); !now.Before(regular) {
			regular = now.Add(jitter(p.exchangeEvery()))
			p.exchangeWithAny()
		}
		timer := time.NewTimer(min(wait, max(regular.Sub(p.now()), 0)))
		select {
		case <-timer.C:
		case <-p.healing:
		case <-p.ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// exchangeEvery grows with the mesh, as memberlist's own intervals do.
func (p *Pool) exchangeEvery() time.Duration {
	return exchangeInterval * time.Duration(1+max(0, math.Ceil(math.Log2(float64(p.table.alive())/32))))
}

// jitter keeps nodes that were cut off together from coming back together.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/4+1) }

// seek contacts lost members that are due, and returns when to look again.
func (p *Pool) seek() time.Duration {
	lost := p.lost()
	p.forget(lost)
	rand.Shuffle(len(lost), func(i, j int) { lost[i], lost[j] = lost[j], lost[i] })
	wait := exchangeInterval
	for _, s := range lost {
		a := p.attemptsAt(s)
		if due := a.next.Sub(p.now()); due > 0 {
			wait = min(wait, due)
			continue
		}
		wait = longestWait / 10
		if !a.running {
			p.contact(s)
		}
	}
	return max(wait, firstWait/2)
}

// lost lists where members may be that aren't alive.
func (p *Pool) lost() []Seed {
	if p.left.Load() {
		return nil
	}
	up := map[identity.Name]bool{}
	for _, m := range p.Members() {
		up[m.Name] = m.Alive
	}
	alone := p.table.alive() <= 1
	var out []Seed
	for _, s := range p.cfg.Seeds() {
		if s.Name == "" && alone || s.Name != "" && s.Name != p.cfg.Name && !up[s.Name] {
			out = append(out, s)
		}
	}
	return out
}

// forget drops the attempts at what isn't lost any more.
func (p *Pool) forget(lost []Seed) {
	p.seeking.Lock()
	defer p.seeking.Unlock()
	if len(p.tried) > len(lost) {
		maps.DeleteFunc(p.tried, func(s Seed, a *attempts) bool { return !a.running && !slices.Contains(lost, s) })
	}
}

func (p *Pool) attemptsAt(s Seed) attempts {
	p.seeking.Lock()
	defer p.seeking.Unlock()
	if a := p.tried[s]; a != nil {
		return *a
	}
	return attempts{}
}

// welcome picks this node's share of the members that came back.
func (p *Pool) welcome() []Member {
	if p.left.Load() {
		return nil
	}
	var out []Member
	for _, m := range p.table.returned() {
		if m.Name != p.cfg.Name && rand.IntN(max(1, p.table.alive())) < welcomers {
			out = append(out, m)
		}
	}
	return out
}

func (p *Pool) exchangeWithAny() {
	if others := p.table.others(p.cfg.Name, true); len(others) > 0 && !p.left.Load() {
		m := others[rand.IntN(len(others))]
		p.contact(Seed{m.Name, m.Addr.String()})
	}
}

// contact exchanges state with a seed in the background, unless too many are running.
func (p *Pool) contact(s Seed) {
	select {
	case p.busy <- struct{}{}:
	default:
		return
	}
	p.note(s, func(a *attempts) { a.running = true })
	p.wait.Go(func() {
		defer func() { <-p.busy }()
		ctx, cancel := context.WithTimeout(p.ctx, exchangeTimeout)
		defer cancel()
		p.judge(s, p.reach(ctx, s))
		wake(p.healing)
	})
}

// judge remembers how an attempt went. A member is forgotten only when it was met.
func (p *Pool) judge(s Seed, err error) {
	if err == nil {
		p.seeking.Lock()
		defer p.seeking.Unlock()
		delete(p.tried, s)
		return
	}
	p.note(s, func(a *attempts) {
		a.failed, a.running = a.failed+1, false
		a.next = p.now().Add(jitter(min(longestWait, firstWait<<min(a.failed, 10))))
		if a.failed == 1 && p.ctx.Err() == nil {
			p.log.Warn("a member doesn't answer; trying again for as long as it is one", "node", s.Name, "address", s.Addr, "err", err)
		}
	})
}

func (p *Pool) note(s Seed, change func(*attempts)) {
	p.seeking.Lock()
	defer p.seeking.Unlock()
	if p.tried[s] == nil {
		p.tried[s] = &attempts{}
	}
	change(p.tried[s])
}

// reach tries all addresses of a seed.
func (p *Pool) reach(ctx context.Context, s Seed) error {
	targets, err := resolve(ctx, s.Addr)
	if err != nil {
		return err
	}
	for _, at := range targets {
		if err = p.exchange(ctx, s.Name, at); err == nil {
			return nil
		}
	}
	return err
}

func resolve(ctx context.Context, addr string) ([]netip.AddrPort, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("%q: not host:port", addr)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	out := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		out[i] = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	}
	return out, nil
}

// SPDX-License-Identifier: Apache-2.0

// Package gate decides which connections to the lane port may begin a handshake,
// by nothing but their address: whoever is at the other end hasn't proven
// anything yet. It must not read from a connection.
package gate

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tacit/identity"
	"tacit/policy"
)

// patience is how long a connection keeps its place for sure. Afterwards it gives
// way to a newcomer where there is no other place: a handshake takes milliseconds,
// so those that are left are slow or silent.
const patience = time.Second

// share is how many connections may be in the gate at once, and how often one may
// enter.
type share struct {
	places int
	rate   float64 // a second, once burst is used up
	burst  float64
}

// group are the visitors with one kind of address. Groups take no places from
// each other.
type group struct {
	each, all share // of one address, and of all together
	bits      int   // of an IPv6 address that count as one visitor

	visitors map[netip.Prefix]*visitor
	places   []*Place // oldest first
	tokens   bucket
	sweepAt  int // visitors
}

// visitor is what is remembered of an address or network.
type visitor struct {
	places int
	tokens bucket
}

// Roll says who is in the mesh. It is asked for every connection.
type Roll interface {
	Home(netip.Addr) bool // whether a member's record says that it is there
	Member(identity.Name) bool
}

// Gate is safe for concurrent use.
type Gate struct {
	roll Roll

	mu        sync.Mutex
	members   group
	strangers group
	seen      sightings
	refused   map[policy.Reason]uint64
}

// New makes an empty gate.
func New(roll Roll) *Gate {
	return &Gate{roll: roll, refused: map[policy.Reason]uint64{}, seen: sightings{},
		members:   newGroup(share{64, 2000, 10_000}, share{256, 20_000, 20_000}, 128),
		strangers: newGroup(share{16, 20, 40}, share{192, 400, 800}, 64)}
}

func newGroup(each, all share, bits int) group {
	return group{each: each, all: all, bits: bits, visitors: map[netip.Prefix]*visitor{}, tokens: bucket{left: all.burst}, sweepAt: minSweep}
}

// Place is a connection in the gate.
type Place struct {
	gate    *Gate
	group   *group
	visitor *visitor
	since   time.Time
	settled bool
	gone    bool
	evicted policy.Reason
	evict   func()
}

// Enter gives a connection from an address a place, or the reason why there is
// none. evict is called when the connection has to give way; it must close the
// connection.
func (g *Gate) Enter(from netip.Addr, evict func()) (*Place, policy.Reason) {
	from = from.Unmap().WithZone("")
	home := g.roll.Home(from)
	p := &Place{gate: g, group: &g.strangers, since: time.Now(), evict: evict}
	g.mu.Lock()
	if home || g.seen.has(from, p.since, g.roll) {
		p.group = &g.members
	}
	displaced, why := p.enter(from)
	if why != "" {
		g.refused[why]++
	}
	g.mu.Unlock()
	if displaced != nil {
		displaced.evict()
	}
	if why != "" {
		return nil, why
	}
	return p, ""
}

// enter is called with the gate's mutex held. displaced has to give way.
func (p *Place) enter(from netip.Addr) (displaced *Place, why policy.Reason) {
	grp, key := p.group, p.group.key(from)
	v := grp.visitors[key]
	if v == nil {
		v = &visitor{tokens: bucket{left: grp.each.burst, at: p.since}}
	}
	switch {
	case !v.tokens.has(p.since, grp.each):
		return nil, policy.ReasonShare
	case !grp.tokens.has(p.since, grp.all):
		return nil, policy.ReasonLimit
	case v.places >= grp.each.places:
		if displaced = grp.makeRoom(v, p.since); displaced == nil {
			return nil, policy.ReasonShare
		}
	case len(grp.places) >= grp.all.places:
		if displaced = grp.makeRoom(nil, p.since); displaced == nil {
			return nil, policy.ReasonLimit
		}
	}
	v.tokens.left--
	grp.tokens.left--
	v.places++
	p.visitor = v
	grp.places = append(grp.places, p)
	grp.visitors[key] = v
	grp.sweep(p.since)
	return displaced, ""
}

// key is the visitor that an address counts as.
func (g *group) key(from netip.Addr) netip.Prefix {
	bits := 32
	if from.Is6() {
		bits = g.bits
	}
	key, _ := from.Prefix(bits) // of a valid address; all others are one visitor
	return key
}

// makeRoom takes the place of the connection that has waited longest: of a visitor,
// or of all with nil.
func (g *group) makeRoom(of *visitor, now time.Time) *Place {
	why := policy.ReasonLimit
	if of != nil {
		why = policy.ReasonShare
	}
	for _, p := range g.places {
		if now.Sub(p.since) < patience {
			return nil // as all that follow
		}
		if p.settled || of != nil && p.visitor != of {
			continue
		}
		p.evicted = why
		p.gate.refused[why]++
		p.leave()
		return p
	}
	return nil
}

const minSweep = 256

// sweep forgets visitors that are as good as new.
func (g *group) sweep(now time.Time) {
	if len(g.visitors) < g.sweepAt {
		return
	}
	maps.DeleteFunc(g.visitors, func(_ netip.Prefix, v *visitor) bool {
		v.tokens.has(now, g.each)
		return v.places == 0 && v.tokens.left >= g.each.burst
	})
	g.sweepAt = max(minSweep, 2*len(g.visitors))
}

// Settle keeps the place until Leave: something is done for this connection that
// must not be cut off.
func (p *Place) Settle() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.settled = true
}

// Leave gives the place back; a second call does nothing.
func (p *Place) Leave() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.leave()
}

// leave is called with the gate's mutex held.
func (p *Place) leave() {
	if p.gone {
		return
	}
	p.gone = true
	p.visitor.places--
	i := slices.Index(p.group.places, p)
	p.group.places = slices.Delete(p.group.places, i, i+1)
}

// Evicted is why the connection had to give way, "" if it hadn't. It has been
// counted.
func (p *Place) Evicted() policy.Reason {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	return p.evicted
}

// Count counts a refusal that was decided elsewhere.
func (g *Gate) Count(why policy.Reason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refused[why]++
}

// Report is how many connections are in the gate, and how many were refused since
// the start.
func (g *Gate) Report() (inside int, refused map[policy.Reason]uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.members.places) + len(g.strangers.places), maps.Clone(g.refused)
}

// bucket holds tokens, one for each time that somebody may enter.
type bucket struct {
	left float64
	at   time.Time
}

// has fills the bucket up to now, and says whether it has a token.
func (b *bucket) has(now time.Time, s share) bool {
	if gone := now.Sub(b.at).Seconds(); gone > 0 {
		b.left, b.at = min(s.burst, b.left+gone*s.rate), now
	}
	return b.left >= 1
}

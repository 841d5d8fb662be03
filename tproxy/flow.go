// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"net/netip"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/lane"
)

// Directions of flows.
const (
	DirectionOut   = "out"   // carried to another node
	DirectionIn    = "in"    // carried here from another node
	DirectionLocal = "local" // between two programs of this node
)

// Flow is one connection, live or ended.
type Flow struct {
	Source, Destination identity.Name
	For                 identity.Name // the service that was called, where Destination stands in for it; else ""
	Node                identity.Name // the other node; "" for local flows
	Direction           string
	Client              netip.AddrPort
	DialledFrom         netip.AddrPort // source address of the connection to the program here: what the program sees as its peer
	Port                uint16         // of the instance; until one is picked, the one that the caller connected to
	Start               time.Time
	Duration            time.Duration
	Sent, Received      uint64        // bytes that this node passed on from source to destination, and back
	End                 policy.Reason // why it ended or was refused; "" while it lives
}

// Flows returns the live streams.
func (p *Proxy) Flows() []Flow {
	all := p.all()
	out := make([]Flow, 0, len(all))
	for _, s := range all {
		out = append(out, s.flow())
	}
	return out
}

// Lanes returns the lanes, idle ones too.
func (p *Proxy) Lanes() []lane.Info { return p.lanes.List() }

// Cut is how many lanes were refused or ended through the peer's fault since the
// start, by reason.
func (p *Proxy) Cut() map[policy.Reason]uint64 { return p.lanes.Cut() }

func (p *Proxy) all() []*stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*stream, 0, len(p.streams))
	for s := range p.streams {
		out = append(out, s)
	}
	return out
}

// begin registers a stream, so that sweeps find it.
func (p *Proxy) begin(s *stream) {
	p.mu.Lock()
	p.streams[s] = struct{}{}
	closed := p.closed
	if s.counted = !closed; s.counted {
		p.live.Add(1)
	}
	p.mu.Unlock()
	if closed {
		s.stop(policy.ReasonDrain)
	}
}

// finish unregisters a stream and reports its one flow record.
func (p *Proxy) finish(s *stream) {
	p.mu.Lock()
	delete(p.streams, s)
	p.mu.Unlock()
	f := s.flow()
	if f.End == "" {
		f.End = policy.ReasonClosed
	}
	p.report(f)
	if s.counted {
		p.live.Done()
	}
}

func (p *Proxy) report(f Flow) {
	p.cfg.Log.Debug("connection ended", "source", f.Source, "destination", f.Destination, "for", f.For, "node", f.Node,
		"direction", f.Direction, "reason", f.End, "sent", f.Sent, "received", f.Received, "duration", f.Duration)
	p.cfg.OnEnd(f)
}

// Sweep decides again on every live stream, whether its source or its
// destination is here, and on every lane's peer. It cuts what is no longer
// allowed: RST to the program here at once, RESET on the lane. It returns the
// number of streams cut, without waiting for their ends.
func (p *Proxy) Sweep() (cut int) {
	p.lanes.Recheck()
	for _, s := range p.all() {
		if p.judge(s) != nil && s.stop(policy.ReasonChanged) {
			cut++
		}
	}
	return cut
}

// judge is the verdict on a registered stream by the current policy and grants.
// Where a service stands in for another one, both must be allowed.
func (p *Proxy) judge(s *stream) error {
	f := s.flow()
	if err := p.allowed(s, f.Source, f.Destination); err != nil {
		return err
	}
	if f.For != "" {
		if err := p.cfg.Router.Decide(f.Source, f.For).Err(); err != nil {
			return err
		}
	}
	switch {
	case f.Node == "":
		return nil
	case f.Direction == DirectionOut:
		return p.granted(f.Node, f.Destination)
	}
	return p.granted(f.Node, f.Source)
}

// allowed is the verdict of this node's policy on a stream, where the place at which
// it came in still is one.
func (p *Proxy) allowed(s *stream, source, destination identity.Name) error {
	if s.entry != nil && !s.entry.Holds() {
		return policy.Refuse(policy.ReasonChanged, "%s isn't defined here any more", source)
	}
	return p.cfg.Router.Decide(source, destination).Err()
}

func (p *Proxy) granted(node, service identity.Name) error {
	if p.cfg.Router.Granted(node, service) {
		return nil
	}
	return policy.Refuse(policy.ReasonGrant, "node %s has no grant for service %s", node, service)
}

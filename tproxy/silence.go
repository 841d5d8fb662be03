// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"sync"
	"time"

	"tacit/identity"
	"tacit/tproxy/lane"
)

const (
	silenceFirst = 350 * time.Millisecond // without an answer, until its node is asked for a sign of life
	silenceMost  = 4 * time.Second        // between two such questions
	signLimit    = 500 * time.Millisecond // for the sign
)

// vigil watches over a stream on a lane until it is answered. A peer's kernel
// acknowledges bytes for a daemon that is stopped, so a lane alone doesn't show
// that the daemon lives: it is asked for a handshake now and then. A daemon that
// doesn't answer loses the lane, if there is another instance to go to.
type vigil struct {
	r     *route
	end   *lane.End
	peer  lane.Peer
	wait  time.Duration
	timer *time.Timer
}

// guard begins the vigil over the present instance.
func (r *route) guard(to endpoint) {
	e, ok := to.(*lane.End)
	if !ok || !r.target.Others || r.target.Retry == RetryNever {
		return
	}
	v := &vigil{r: r, end: e, peer: r.target.peer(), wait: silenceFirst}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.vigil, v.timer = v, time.AfterFunc(v.wait, v.due)
}

// rest ends the vigil.
func (r *route) rest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.vigil != nil {
		r.vigil.timer.Stop()
		r.vigil = nil
	}
}

func (v *vigil) due() {
	if v.over() || !v.r.p.enter() {
		return
	}
	defer v.r.p.work.Done()
	err := v.r.p.ask(v.r.ctx, v.peer)
	v.r.mu.Lock()
	defer v.r.mu.Unlock()
	switch {
	case v.r.vigil != v || v.r.settled.Load() || v.r.over:
	case err == nil:
		v.wait = min(2*v.wait, silenceMost)
		v.timer.Reset(v.wait)
	default:
		v.end.Abort()
	}
}

func (v *vigil) over() bool {
	v.r.mu.Lock()
	defer v.r.mu.Unlock()
	return v.r.vigil != v || v.r.settled.Load()
}

// dropDead ends the lanes of peers that the mesh holds for dead and that give no
// sign of life. Without it, an answered stream would wait for a stopped daemon as
// long as its kernel acknowledges bytes.
func (p *Proxy) dropDead(all []*stream) {
	dead := map[identity.Name]bool{}
	for _, s := range all {
		node := s.flow().Node
		if _, known := dead[node]; node == "" || known {
			continue
		}
		if dead[node] = !p.cfg.Router.Alive(node); dead[node] {
			p.work.Go(func() { p.dropSilent(node) })
		}
	}
}

func (p *Proxy) dropSilent(node identity.Name) {
	for _, l := range p.lanes.List() {
		if l.Peer.Name() == node && l.Dialled {
			// A node that has just come back may answer on a lane while the question, asked before that, fails.
			if p.ask(p.ctx, lane.Peer{Node: node, Addr: l.Addr}) != nil && !p.lanes.Heard(node, signLimit) {
				p.lanes.Lose(node)
			}
			return
		}
	}
}

// signs are the last signs of life of peers. However many streams ask, a peer is
// asked once at a time.
type signs struct {
	mu   sync.Mutex
	last map[identity.Name]*sign
}

type sign struct {
	asked time.Time
	done  chan struct{}
	err   error
}

// ask returns nil if the peer has given a sign of life to a question that is at
// most silenceFirst old, or to one that is asked now.
func (p *Proxy) ask(ctx context.Context, to lane.Peer) error {
	g := &p.signs
	now := time.Now()
	g.mu.Lock()
	s := g.last[to.Node]
	if s != nil && now.Sub(s.asked) < silenceFirst {
		g.mu.Unlock()
		select {
		case <-s.done:
			return s.err
		case <-ctx.Done():
			return nil
		}
	}
	s = &sign{asked: now, done: make(chan struct{})}
	g.last[to.Node] = s
	g.mu.Unlock()
	limited, cancel := context.WithTimeout(p.ctx, signLimit)
	defer cancel()
	s.err = p.lanes.Reach(limited, to)
	close(s.done)
	return s.err
}

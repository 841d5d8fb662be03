// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy"
	"tacit/tproxy/lane"
)

// Streams are what an incumbent still carries: a *tproxy.Proxy.
type Streams interface {
	Flows() []tproxy.Flow
	Lanes() []lane.Info
	Sweep() (cut int)
}

// settled says whether no stream is left, and none can come: the other ends of all
// accepted lanes have learnt that they take no more.
func settled(s Streams) bool {
	return len(s.Flows()) == 0 && !slices.ContainsFunc(s.Lanes(), func(l lane.Info) bool { return !l.Dialled })
}

// Successor is the daemon that has taken over.
type Successor struct {
	pid  int
	conn *net.UnixConn
}

// PID is its process.
func (s *Successor) PID() int { return s.pid }

// Bench judges this daemon's connections: by its own policy while it is in charge, and
// by its successor's afterwards. It is safe for concurrent use.
type Bench struct {
	Router  tproxy.Router
	Peers   identity.PeerCheck
	Journal func(tproxy.Flow)

	away atomic.Pointer[away]
}

// away asks a successor, and remembers the answers until the next change.
type away struct {
	client  *rpc.Client
	reports sync.WaitGroup // connections whose ends it hasn't heard of yet
	mu      sync.Mutex
	known   map[any]any
}

// Without its successor this daemon doesn't learn of changes any more.
var (
	errGone   = errors.New("the daemon that has taken over is gone")
	errSilent = errors.New("the daemon that has taken over doesn't answer")
)

// silence is how long a successor may not answer that does so every beat.
const silence = 20 * beat

// Route is the proxy's Router.
func (b *Bench) Route() tproxy.Router { return routed{b.Router, b} }

type routed struct {
	tproxy.Router
	bench *Bench
}

// Decide is tproxy.Router's.
func (r routed) Decide(source, destination identity.Name) policy.Decision {
	a := r.bench.away.Load()
	if a == nil {
		return r.Router.Decide(source, destination)
	}
	d, err := ask[policy.Decision](a, "Decide", Pair{source, destination})
	if err != nil {
		return policy.Decision{Reason: policy.ReasonDrain}
	}
	return d
}

// Granted is tproxy.Router's.
func (r routed) Granted(node, service identity.Name) bool {
	a := r.bench.away.Load()
	if a == nil {
		return r.Router.Granted(node, service)
	}
	granted, err := ask[bool](a, "Granted", Pair{node, service})
	return err == nil && granted
}

// Check is an identity.PeerCheck.
func (b *Bench) Check(id identity.ID, chain []identity.KeyID) error {
	a := b.away.Load()
	if a == nil {
		return b.Peers(id, chain)
	}
	var v Verdict
	if err := a.client.Call(service+".Check", Peer{id.String(), chain}, &v); err != nil {
		return errGone
	}
	if v.Reason != "" {
		return &policy.Refusal{Reason: v.Reason, Detail: v.Detail}
	}
	return nil
}

// Ended is told of each connection that has ended. It doesn't block.
func (b *Bench) Ended(f tproxy.Flow) {
	if a := b.away.Load(); a != nil {
		a.reports.Go(func() { _ = a.client.Call(service+".Ended", f, &struct{}{}) })
		return
	}
	b.Journal(f)
}

// ask asks once after each change.
func ask[T any](a *away, method string, q Pair) (answer T, err error) {
	type key struct {
		method string
		q      Pair
	}
	a.mu.Lock()
	known := a.known
	before, ok := known[key{method, q}]
	a.mu.Unlock()
	if ok {
		return before.(T), nil
	}
	if err := a.client.Call(service+"."+method, q, &answer); err != nil {
		return answer, errGone
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	known[key{method, q}] = answer // nobody's any more, if there was a change meanwhile
	return answer, nil
}

// judge is the Judge of a daemon in charge, or of one that asks its own successor.
type judge struct {
	*Bench
	defined func(ingress identity.Name) bool
}

func (j judge) Decide(source, destination identity.Name) policy.Decision {
	if source.IsIngress() && !j.defined(source) {
		return policy.Decision{Reason: policy.ReasonChanged}
	}
	return j.Route().Decide(source, destination)
}

func (j judge) Granted(node, service identity.Name) bool { return j.Route().Granted(node, service) }

// Carry returns when no stream is left, here and with the daemons before this one, when
// the time is over or ctx ends, or with an error when the successor is gone. After each
// change the streams are judged again. What is still live at the end is the caller's to
// cut; after that, Close.
func (b *Bench) Carry(ctx context.Context, s *Successor, streams Streams, before *Predecessor, limit time.Duration) error {
	a := &away{client: jsonrpc.NewClient(s.conn), known: map[any]any{}}
	b.away.Store(a)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var seen uint64
	for {
		over := settled(streams) && before.Daemons() == nil
		changes, err := a.await(Turn{seen, len(streams.Flows()) + before.carries()})
		if err != nil {
			return err
		}
		if over || ctx.Err() != nil {
			return nil
		}
		if changes != seen {
			a.forget()
			streams.Sweep()
			before.Sweep()
			seen = changes
		}
	}
}

// await waits for a change, or a while.
func (a *away) await(t Turn) (changes uint64, err error) {
	limit := silence
	if t.Seen == 0 {
		limit = openTime // the successor is bringing its policy in force
	}
	call := a.client.Go(service+".Await", t, &changes, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		if call.Error != nil {
			return 0, errGone
		}
		return changes, nil
	case <-time.After(limit):
		return 0, errSilent
	}
}

func (a *away) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known = map[any]any{}
}

// Close ends the connection to the successor, once that one has heard of all ends.
func (b *Bench) Close() {
	a := b.away.Load()
	if a == nil {
		return
	}
	end := time.AfterFunc(silence, func() { _ = a.client.Close() })
	defer end.Stop()
	a.reports.Wait()
	_ = a.client.Close()
}

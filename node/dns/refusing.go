// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"sync"
	"time"
)

// refusedFor is how long an upstream whose port was closed isn't asked again.
const refusedFor = time.Second

// refusing remembers the upstreams that refused a query (ICMP "port unreachable").
// The kernel limits how often a host says so: of several queries at once only one may
// hear of it, and the others would wait in vain.
type refusing struct {
	mu     sync.Mutex
	routes map[route]*refusal // a few: the resolvers of this host
}

type refusal struct {
	until  time.Time
	open   context.Context // ends when a query is refused
	refuse context.CancelFunc
}

// enter returns a context that ends as soon as the upstream refuses some query. It
// has ended already where one was refused just now.
func (r *refusing) enter(to route) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.routes == nil {
		r.routes = map[route]*refusal{}
	}
	one := r.routes[to]
	if one == nil || one.open.Err() != nil && time.Now().After(one.until) {
		one = &refusal{}
		one.open, one.refuse = context.WithCancel(context.Background())
		r.routes[to] = one
	}
	return one.open
}

// note ends every wait for an answer of that upstream.
func (r *refusing) note(to route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if one := r.routes[to]; one.open.Err() == nil {
		one.until = time.Now().Add(refusedFor)
		one.refuse()
	}
}

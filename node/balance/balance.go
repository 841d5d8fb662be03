// SPDX-License-Identifier: Apache-2.0

// Package balance remembers what this node's own connections tell of instances:
// how many each carries, which have failed, and since when each can be called. By
// that it chooses an instance for every connection. It must not know how
// connections are carried, nor tell other nodes.
package balance

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/tproxy"
)

const (
	failuresLimit = 3                // in a row, until an instance is ejected
	firstEjection = time.Second      // doubled each time
	longEjection  = 30 * time.Second // the most
	startTime     = 10 * time.Second // in which a new instance's share grows
	startShare    = 10               // percent, at its beginning
)

// Key names an instance of a service.
type Key struct {
	Node identity.Name
	ID   string
}

// Balancer is safe for concurrent use.
type Balancer struct {
	log     *slog.Logger
	leaving func(node identity.Name) bool // it is about to stop
	now     func() time.Time
	intN    func(n int) int // a random number in [0, n)

	mu       sync.Mutex
	services map[identity.Name]*service
}

type service struct {
	turns     map[identity.Name]uint64 // by subset; "": without a split
	instances map[Key]*instance
}

// instance is what is known of one instance.
type instance struct {
	streams   int
	since     time.Time // when it was first seen fit to be called; zero: it isn't
	failures  int       // in a row
	ejections int       // without an answer in between
	until     time.Time // the end of its ejection; zero: it isn't ejected
	trial     bool      // after an ejection, one connection is under way
}

// New makes a balancer that knows nothing. leaving reports whether a node is about to
// stop: others are preferred to it.
func New(log *slog.Logger, leaving func(node identity.Name) bool) *Balancer {
	return &Balancer{log: log, leaving: leaving, now: time.Now, intN: rand.IntN, services: map[identity.Name]*service{}}
}

// Call is a connection for which an instance is chosen.
type Call struct {
	Service identity.Name
	Subset  identity.Name            // that the caller connected to; "": to the service
	Port    uint16                   // that the caller connected to
	Source  string                   // who calls, for the policy "hash"
	Tried   []Key                    // before, by this connection
	Allowed func(identity.Name) bool // whether the source may call a service that stands in for this one
}

// Pick chooses an instance for a connection and counts it until Report. others says
// whether one is left that the connection hasn't tried. Errors are *policy.Refusal
// with the reasons port and instance.
func (b *Balancer) Pick(c *catalog.Catalog, q Call) (in catalog.Instance, others bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	b.look(c, q.Service, now)
	rules, _ := c.Rules(q.Service)
	for _, standby := range rules.Failover {
		b.look(c, standby, now)
	}
	known := func(in catalog.Instance) *instance { return b.services[in.Service].instances[keyOf(in)] }
	in, others, err = c.Pick(catalog.Call{Service: q.Service, Subset: q.Subset, Port: q.Port, Source: q.Source, Allowed: q.Allowed, Turn: b.turn, IntN: b.intN,
		Tried: func(in catalog.Instance) bool { return slices.Contains(q.Tried, keyOf(in)) },
		Standing: func(in catalog.Instance) catalog.Standing {
			s := known(in).standing(now)
			s.Leaving = !in.Here && b.leaving(in.Node)
			return s
		}})
	if err != nil {
		return in, others, err
	}
	i := known(in)
	i.streams++
	i.trial = !i.until.IsZero()
	return in, others, nil
}

// turn counts the connections to a subset.
func (b *Balancer) turn(name, subset identity.Name) uint64 {
	s := b.services[name]
	s.turns[subset]++
	return s.turns[subset] - 1
}

// look notes which instances of a service can be called now, and forgets those
// that are gone.
func (b *Balancer) look(c *catalog.Catalog, name identity.Name, now time.Time) {
	s := b.services[name]
	if s == nil {
		s = &service{turns: map[identity.Name]uint64{}, instances: map[Key]*instance{}}
		b.services[name] = s
	}
	first := len(s.instances) == 0
	list := c.Instances(name)
	for _, in := range list {
		i := s.instances[keyOf(in)]
		if i == nil {
			i = &instance{}
			s.instances[keyOf(in)] = i
		}
		switch {
		case !in.Callable():
			i.since = time.Time{}
		case first:
			i.since = now.Add(-startTime) // nothing is older
		case i.since.IsZero():
			i.since = now
		}
	}
	if len(s.instances) > len(list) {
		s.forget(list)
	}
}

func (s *service) forget(list []catalog.Instance) {
	known := make(map[Key]bool, len(list))
	for _, in := range list {
		known[keyOf(in)] = true
	}
	for k, i := range s.instances {
		if !known[k] && i.streams == 0 {
			delete(s.instances, k)
		}
	}
}

func keyOf(in catalog.Instance) Key { return Key{in.Node, in.ID} }

func (i *instance) standing(now time.Time) catalog.Standing {
	share := 100
	if age := now.Sub(i.since); age < startTime {
		share = startShare + int(int64(100-startShare)*int64(age)/int64(startTime))
	}
	return catalog.Standing{Streams: i.streams, Ejected: now.Before(i.until) || i.trial, Share: max(share, 1)}
}

// Report says what became of a connection that Pick has counted.
func (b *Balancer) Report(name identity.Name, k Key, how tproxy.Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.services[name]
	if s == nil || s.instances[k] == nil {
		return
	}
	i := s.instances[k]
	if how != tproxy.Answered {
		i.streams--
	}
	now := b.now()
	switch how {
	case tproxy.Answered:
		if !i.until.IsZero() {
			b.log.Info("instance answers again", "service", name, "node", k.Node, "id", k.ID)
			i.since = now
		}
		i.failures, i.ejections, i.until, i.trial = 0, 0, time.Time{}, false
	case tproxy.Ended:
		i.trial = false
	case tproxy.Failed:
		i.failures++
		if i.failures >= failuresLimit && !now.Before(i.until) {
			i.eject(now)
			b.log.Warn("instance ejected: its connections failed", "service", name, "node", k.Node, "id", k.ID,
				"failures", i.failures, "for", i.until.Sub(now))
		}
		i.trial = false
	}
}

// eject takes the instance out of rotation, each time for longer.
func (i *instance) eject(now time.Time) {
	i.until = now.Add(min(firstEjection<<min(i.ejections, 10), longEjection))
	i.ejections++
}

// Ejected is why and until when this node leaves an instance out.
type Ejected struct {
	Until    time.Time
	Failures int // in a row
}

// Ejected returns the instances of a service that are ejected.
func (b *Balancer) Ejected(name identity.Name) map[Key]Ejected {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[Key]Ejected{}
	if s := b.services[name]; s != nil {
		for k, i := range s.instances {
			if !i.until.IsZero() {
				out[k] = Ejected{i.until, i.failures}
			}
		}
	}
	return out
}

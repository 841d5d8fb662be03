// SPDX-License-Identifier: Apache-2.0

// Package selfprobe tries what programs do (connect, send, look up a name)
// with a program of the daemon's own, through the real hooks, so that status
// reports what happened and not what was intended. It must not repair
// anything, and no verdict on a service may depend on it.
package selfprobe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"tacit/identity"
	"tacit/node/probe"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/kernel"
)

// Command is the subcommand by which a daemon starts its probe.
const Command = "probe"

// Serve is the life of that process.
func Serve(in io.Reader, out io.Writer) error { return probe.Serve(in, out) }

// The probe is a service that only this node knows, and that may call itself. The
// kernel programs count none of its connections (is_own() in bpf/report.h).
// Users can't name a service like that, nor like the owner of the address that
// belongs to nobody: the names are no DNS labels.
const (
	service = identity.Name("tacit/probe")
	nobody  = identity.Name("tacit/nobody")
	port    = 7
)

const (
	freshFor = time.Second      // a round answers for so long, and then a new one is made for whoever asks
	interval = 10 * time.Second // between rounds that nobody asked for: they keep the process ready
)

// Numbers reserves numbers, and with them virtual addresses.
type Numbers interface {
	Reserve(name identity.Name, number uint32) error
}

// Config is what a SelfProbe works with.
type Config struct {
	Range4  netip.Prefix
	Domains []string // of the mesh, besides consul
	Hooks   bool     // false: nothing refuses before the proxy does, so refusals aren't tried
	Cgroup  string   // of the probe
	Numbers Numbers
	// Virtual returns a service's virtual addresses; an invalid one: none.
	Virtual func(identity.Name) (v4, v6 netip.Addr)
	// Resolvers are the captured ones.
	Resolvers func() []netip.Addr
	// Source asks the kernel who made an accepted connection.
	Source func(fd int) (identity.Name, error)
	// Settle has the kernel's maps written again, with what Enrol adds, and
	// returns when they are.
	Settle func()
}

// SelfProbe is safe for concurrent use.
type SelfProbe struct {
	conf   Config
	prober probe.Prober
	fault  error         // the probe has no addresses: nothing can be tried
	known  atomic.Uint64 // id of the cgroup that Enrol added last

	trying sync.Mutex // one round at a time; guards at
	at     time.Time  // of the last round

	mu      sync.Mutex
	round   round
	results []probe.Result
	err     error // the round couldn't be run
}

// New reserves the two highest numbers of the IPv4 range, and with them the
// virtual addresses, and makes the probe's cgroup.
func New(c Config) (*SelfProbe, error) {
	p := &SelfProbe{conf: c}
	p.prober = probe.Prober{Command: []string{"/proc/self/exe", Command}, Cgroup: c.Cgroup}
	last := uint32(1)<<(32-c.Range4.Bits()) - 1
	if err := errors.Join(c.Numbers.Reserve(nobody, last), c.Numbers.Reserve(service, last-1)); err != nil {
		p.fault = fmt.Errorf("--virtual-range4 %s is used up, so nothing can be tried in it: %w", c.Range4, err)
		return p, nil
	}
	if err := os.MkdirAll(c.Cgroup, 0o755); err != nil { // enrolled from the first compilation on
		return nil, fmt.Errorf("the probe's cgroup: %w", err)
	}
	return p, nil
}

// Run tries now and then until ctx ends.
func (p *SelfProbe) Run(ctx context.Context) error {
	defer p.prober.Close()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		p.refresh(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// refresh makes a round where the last one is too old.
func (p *SelfProbe) refresh(ctx context.Context) {
	p.trying.Lock()
	defer p.trying.Unlock()
	if time.Since(p.at) < freshFor {
		return
	}
	if p.try(ctx) {
		p.at = time.Now()
	}
}

// try asks once and, where something failed, once more with a new process: the
// old one may have been moved, and what has been repaired meanwhile is no alarm.
func (p *SelfProbe) try(ctx context.Context) (done bool) {
	results, err := p.ask(ctx)
	if ctx.Err() == nil && (err != nil || failed(results)) {
		p.prober.Moved()
		results, err = p.ask(ctx)
	}
	if ctx.Err() != nil {
		return false // the daemon ends
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.results, p.err = results, err
	return true
}

func failed(results []probe.Result) bool {
	for _, r := range results {
		if r.Err != "" {
			return true
		}
	}
	return false
}

func (p *SelfProbe) ask(ctx context.Context) ([]probe.Result, error) {
	if p.fault != nil {
		return nil, p.fault
	}
	if err := p.settle(); err != nil {
		return nil, err
	}
	v4, v6 := p.conf.Virtual(service)
	none4, none6 := p.conf.Virtual(nobody)
	next := newRound(p.conf, addresses{self: [2]netip.Addr{v4, v6}, nobody: [2]netip.Addr{none4, none6}, resolvers: firstOf(p.conf.Resolvers())})
	p.mu.Lock()
	p.round = next
	p.mu.Unlock()
	return p.prober.Ask(ctx, next.tasks)
}

// settle makes sure that the probe's cgroup exists and is enrolled: somebody may
// have removed it.
func (p *SelfProbe) settle() error {
	if err := os.MkdirAll(p.conf.Cgroup, 0o755); err != nil {
		return fmt.Errorf("the probe's cgroup: %w", err)
	}
	if id, err := workload.ID(p.conf.Cgroup); err != nil || id == p.known.Load() {
		return err
	}
	p.conf.Settle()
	return nil
}

// Moved is told when the daemon's cgroup was made anew, and the probe's with it.
func (p *SelfProbe) Moved() { p.prober.Moved() }

// Enrol makes the probe's cgroup its workload, and lets it call itself.
func (p *SelfProbe) Enrol(s *kernel.State) {
	if p.fault != nil {
		return
	}
	if id, err := workload.ID(p.conf.Cgroup); err == nil {
		s.Workloads.Cgroups[id] = service
		p.known.Store(id)
	}
	s.Endpoints = append(s.Endpoints, kernel.Endpoint{Service: service, Port: port, Remote: true})
	s.Own = []policy.Intention{{Source: service, Destination: service, Action: policy.Allow}}
}

// Lookup answers the name that the present round asks for.
func (p *SelfProbe) Lookup(name identity.Name) (v4, v6 netip.Addr, ok bool) {
	p.mu.Lock()
	ok = p.round.label != "" && string(name) == p.round.label
	p.mu.Unlock()
	if !ok {
		return netip.Addr{}, netip.Addr{}, false
	}
	v4, v6 = p.conf.Virtual(service)
	return v4, v6, true
}

// Results are those of a round that is at most a second old; a new round takes
// some milliseconds, or two seconds where something fails.
func (p *SelfProbe) Results(ctx context.Context) ([]probe.Result, error) {
	p.refresh(context.WithoutCancel(ctx)) // its results serve the next who asks, too
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.results, p.err
}

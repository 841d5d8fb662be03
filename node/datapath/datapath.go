// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sync/errgroup"

	"tacit/bpf"
	"tacit/node/config"
	"tacit/node/health"
	"tacit/node/workload"
	"tacit/redirect"
	"tacit/redirect/links"
	"tacit/redirect/listen"
)

// Names answers captured DNS queries; see package dns.
type Names interface {
	// Serve answers what arrives on a pair of listeners for one resolver.
	Serve(ctx context.Context, udp net.PacketConn, tcp net.Listener, resolver netip.AddrPort) error
	// Exchange answers one query that was sent to a resolver, by "udp" or "tcp".
	Exchange(ctx context.Context, query []byte, network string, resolver netip.AddrPort) ([]byte, error)
}

// Health learns what is wrong, and what was repaired.
type Health interface {
	Set(f health.Family, thing string, err error) (news bool)
	Replace(f health.Family, now map[string]error)
	Repaired(object, found string)
}

// Config is what a Datapath works with.
type Config struct {
	Settings *config.Settled
	Tree     workload.Tree
	Daemon   uint64 // id of the daemon's cgroup
	Hooks    Hooks
	Enforcer Enforcer
	Names    Names
	Health   Health
	Log      *slog.Logger
	// Changed is called when the kernel's maps or the captured resolvers may
	// have to change; sweep: connections must be judged again as well. It must
	// not block.
	Changed func(sweep bool)
	// Tampered is told what something else has changed of the policy in the kernel:
	// it is written again, and what was let in meanwhile is judged again. It must not
	// block.
	Tampered func(what string)
	// Moved is called when the daemon's cgroup was made anew.
	Moved func()
	// Inherited are the listeners of the daemon whose work this one takes over.
	Inherited *listen.Inherited
	// Earlier are daemons that still carry streams: they may be in the daemon's cgroup.
	Earlier func() []int
}

// Datapath is the kernel's side of this node. It is safe for concurrent use.
type Datapath struct {
	conf      Config
	place     place
	resolvers *resolvers
	drift     *redirect.DriftWatcher
	captured  [2]*capturedListener // IPv4, IPv6; nil without IPv6
	holding   sync.Mutex           // held while something is repaired, and by Hold

	mu        sync.Mutex // one change of listeners, routes and rules at a time; guards what follows
	listeners *listen.Pair
	answers   []uint16 // ports whose programs see their callers' own addresses
	plan      redirect.Plan
}

// New returns a datapath that has done nothing yet.
func New(c Config) *Datapath {
	d := &Datapath{conf: c, place: newPlace(c.Daemon)}
	d.resolvers = newResolvers(c, d.Restate)
	return d
}

// Open opens the listeners, tells the programs of them, and sets the routes.
// From then on everything that is addressed to the mesh is captured.
func (d *Datapath) Open(ctx context.Context) error {
	var err error
	if d.listeners, err = listen.CapturedPair(ctx, links.HasIPv6(), d.conf.Inherited); err != nil {
		return err
	}
	d.reopenWhenClosed()
	if d.drift, err = redirect.NewDriftWatcher(); err != nil {
		return err
	}
	if err := d.resolvers.open(context.WithoutCancel(ctx), d.conf.Inherited); err != nil {
		return err
	}
	if b, ok := d.conf.Hooks.(*tproxyBackend); ok {
		b.restate = d.Restate
	}
	return d.settle()
}

// Run watches and repairs until ctx ends, or a listener for names fails.
func (d *Datapath) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.resolvers.run(ctx) })
	g.Go(func() error { return d.watch(ctx) })
	return g.Wait()
}

// Close closes the listeners; programs, routes and rules stay.
func (d *Datapath) Close() error {
	var errs []error
	for _, l := range d.captured {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	d.resolvers.close()
	if d.drift != nil {
		errs = append(errs, d.drift.Close())
	}
	return errors.Join(errs...)
}

// Plan is what was last set on this host.
func (d *Datapath) Plan() redirect.Plan {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plan
}

// Hooks asks the kernel for each program: pinned, attached where it should be,
// and running there.
func (d *Datapath) Hooks() ([]bpf.Hook, error) { return d.conf.Hooks.Status() }

// Resolvers are the captured ones, as resolv.conf names them.
func (d *Datapath) Resolvers() []netip.Addr { return d.resolvers.addrs() }

// Search are the search suffixes of resolv.conf.
func (d *Datapath) Search() []string { return d.resolvers.search() }

// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tacit/bpf"
	"tacit/identity"
	"tacit/node/config"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/redirect"
	"tacit/redirect/links"
	"tacit/redirect/sockdiag"
)

// tproxyBackend takes the place of the hooks with --redirect tproxy, on hosts
// where none can be attached. Netfilter steers what programs send; the kernel
// is asked for the caller once a connection has been accepted; nothing refuses
// before that. docs/redirect-tproxy.md lists the guarantees that are lost.
type tproxyBackend struct {
	settings *config.Settled
	tree     workload.Tree
	daemon   bool // false: `tacitd guard`
	revision atomic.Uint64
	restate  func() error // sets the rules again, for changed guards; nil before the datapath is open

	mu        sync.Mutex
	table     *policy.Table
	workloads map[uint64]identity.Name
	guards    []uint16 // ports that accept connections of this host's daemon only
}

// startTPROXY closes the ports of the services defined here. A daemon also
// removes the rules of an earlier one, which may name a cgroup that is gone.
func startTPROXY(c LoadConfig) (*tproxyBackend, error) {
	b := &tproxyBackend{settings: c.Settings, tree: c.Tree, daemon: c.Daemon != 0, guards: strictPorts(c.Guards)}
	b.revision.Store(uint64(time.Now().Unix())) // grows over restarts too
	plan := redirect.GuardPlan
	if b.daemon {
		plan = redirect.NewPlan
	}
	return b, redirect.Apply(plan(b.atRest()))
}

// atRest is the host's plan without a daemon: guarded ports are closed, calls
// to virtual addresses are refused at once, and DNS goes to the resolvers.
func (b *tproxyBackend) atRest() redirect.Config {
	return redirect.Config{Range4: b.settings.Range4, Range6: b.settings.Range6, IPv6: links.HasIPv6(), Guards: b.guards}
}

// LetGo has no links to let go of.
func (b *tproxyBackend) LetGo() error { return nil }

// Close removes what only a running daemon can serve.
func (b *tproxyBackend) Close() error {
	if !b.daemon {
		return nil
	}
	c := b.atRest()
	if err := b.steer(&c); err != nil {
		return err
	}
	return redirect.Apply(redirect.NewPlan(c))
}

// steer adds to c what the hooks would do.
func (b *tproxyBackend) steer(c *redirect.Config) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	c.Guards = b.guards
	c.Daemon, err = b.tree.DaemonPath()
	return err
}

// strictPorts returns the ports of guards that refuse plain connections, sorted.
func strictPorts(guards []kernel.Guard) []uint16 {
	var out []uint16
	for _, g := range guards {
		if !g.Permissive {
			out = append(out, g.Port)
		}
	}
	slices.Sort(out)
	return out
}

// Apply takes over who is a workload, and closes ports. The table only counts
// as a change: the proxy judges by the node's own.
func (b *tproxyBackend) Apply(s kernel.State) (changed bool, err error) {
	guards := strictPorts(s.Guards)
	b.mu.Lock()
	ports := !slices.Equal(guards, b.guards)
	changed = ports || b.table != s.Table || !maps.Equal(b.workloads, s.Workloads.Cgroups)
	b.table, b.workloads, b.guards = s.Table, s.Workloads.Cgroups, guards
	b.mu.Unlock()
	if ports && b.restate != nil {
		err = b.restate()
	}
	if changed {
		b.revision.Add(1)
	}
	return changed, err
}

// Origin finds out which service made the accepted connection fd: that of the
// deepest enrolled cgroup around the one in which the caller's socket was made.
// Errors: *policy.Refusal with the reason identity.
func (b *tproxyBackend) Origin(fd int) (kernel.Origin, error) {
	id, err := sockdiag.CallerCgroup(fd)
	if errors.Is(err, sockdiag.ErrNoSocket) {
		return kernel.Origin{}, unknownCaller("the caller has gone, or is in another network namespace, where it can't be recognised without hooks")
	}
	if err != nil {
		return kernel.Origin{}, err
	}
	path, err := workload.PathOf(b.tree.Root(), id)
	if err != nil {
		return kernel.Origin{}, unknownCaller(err.Error())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for ; path != "/" && path != "."; path = filepath.Dir(path) {
		if id, err := workload.ID(path); err == nil && b.workloads[id] != "" {
			return kernel.Origin{Source: b.workloads[id]}, nil
		}
	}
	return kernel.Origin{}, unknownCaller("the caller is no workload")
}

func unknownCaller(why string) error {
	return &policy.Refusal{Reason: policy.ReasonIdentity, Detail: why}
}

// Events has none to hand over: what is refused, the proxy refuses.
func (b *tproxyBackend) Events(ctx context.Context, _ func(kernel.Event)) error {
	<-ctx.Done()
	return nil
}

// Listening has nothing to announce: the loop looks more often.
func (b *tproxyBackend) Listening(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// NumberOf is plain arithmetic.
func (b *tproxyBackend) NumberOf(a netip.Addr) (uint32, bool) {
	return kernel.NumberOf(b.settings.Range4, b.settings.Range6, a)
}

// Revision grows with every change; its digest is that of the table by which the
// proxy judges.
func (b *tproxyBackend) Revision() kernel.Revision {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := kernel.Revision{Number: b.revision.Load()}
	if b.table != nil {
		out.Digest = b.table.Digest()
	}
	return out
}

// The remaining methods concern hooks, of which there are none.

func (b *tproxyBackend) Sweep(context.Context) (int, error)                { return 0, nil }
func (b *tproxyBackend) SweepWanted() <-chan struct{}                      { return nil }
func (b *tproxyBackend) Tag(int, identity.Name, identity.Name, bool) error { return nil }
func (b *tproxyBackend) Counters() (given, lost map[policy.Reason]uint64, err error) {
	return nil, nil, nil
}
func (b *tproxyBackend) Directs() (map[kernel.Direct]kernel.Sum, error) { return nil, nil }
func (b *tproxyBackend) Room([]identity.Name) ([]kernel.Room, error)    { return nil, nil }
func (b *tproxyBackend) Verify() ([]string, error)                      { return nil, nil }
func (b *tproxyBackend) Repair() []bpf.Repaired                         { return nil }
func (b *tproxyBackend) SetDaemonCgroup(uint64) error                   { return nil }
func (b *tproxyBackend) SetListeners(bpf.Listeners) error               { return nil }
func (b *tproxyBackend) SetServing(...int) error                        { return nil }
func (b *tproxyBackend) SetResolvers([]bpf.Resolver) error              { return nil }
func (b *tproxyBackend) Status() ([]bpf.Hook, error)                    { return nil, nil }

// Unheld names the guarantees (docs/redirect-tproxy.md) that a way of capture
// doesn't give.
func Unheld(way string) []string {
	if way != config.TPROXY {
		return nil
	}
	return []string{"fail closed (1)", "deny is complete (2)", "netfilter never guards (7)"}
}

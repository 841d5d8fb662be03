// SPDX-License-Identifier: Apache-2.0

package node

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

	"tacit/redirect/sockdiag"

	"tacit/bpf"
	"tacit/identity"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/redirect"
)

// judge is who recognises callers and refuses in the kernel: *kernel.Kernel by
// the socket hooks, or hookless.
type judge interface {
	Apply(kernel.State) (changed bool, err error)
	Revision() uint64
	Sweep(context.Context) (cut int, err error)
	SweepWanted() <-chan struct{}
	Tag(fd int, source, destination identity.Name) error
	Origin(fd int) (kernel.Origin, error)
	NumberOf(netip.Addr) (uint32, bool)
	Events(context.Context, func(kernel.Event)) error
	Counters() (map[policy.Reason]uint64, error)
	Room(sources []identity.Name) ([]kernel.Room, error)
	Verify() (changed []string, err error)
}

// hooks are the programs in the kernel: *bpf.Objects, or hookless.
type hooks interface {
	SetListeners(bpf.Listeners) error
	SetServing(fds ...int) error
	SetResolvers([]bpf.Resolver) error
	SetDaemonCgroup(id uint64) error
	Status() ([]bpf.Hook, error)
	Repair() []bpf.Repaired
	Close() error
}

const redirectTPROXY = "tproxy"

// hookless stands in for the hooks with --redirect tproxy, on hosts where none
// can be attached. Netfilter steers what programs send; who they are is asked
// of the kernel when a connection has been accepted; nothing refuses before.
// docs/redirect-tproxy.md says what that can't hold.
type hookless struct {
	n        *Node
	daemon   bool // not `tacitd guard`
	revision atomic.Uint64

	mu        sync.Mutex
	table     *policy.Table
	workloads map[uint64]identity.Name
	guards    []uint16 // ports that only this host and the mesh may reach
}

// startHookless closes the ports of the services defined here. A daemon also
// takes off what a former one has left: its rules may name a cgroup that is no
// more.
func startHookless(n *Node, daemon bool) (*hookless, error) {
	h := &hookless{n: n, daemon: daemon}
	h.revision.Store(uint64(time.Now().Unix())) // grows over restarts, too
	view, err := n.defined()
	if err != nil {
		return nil, err
	}
	h.guards = strict(n.guards(view))
	plan := redirect.GuardPlan
	if daemon {
		plan = redirect.NewPlan
	}
	return h, redirect.Apply(plan(h.atRest()))
}

// atRest is the host without a daemon: ports are closed, calls are refused at
// once, and names go to the resolvers.
func (h *hookless) atRest() redirect.Config {
	return redirect.Config{Range4: h.n.cfg.Range4, Range6: h.n.cfg.Range6, IPv6: hasIPv6(), Guards: h.guards}
}

// Close takes off, where the daemon ends in order, what only it can serve.
func (h *hookless) Close() error {
	if !h.daemon {
		return nil
	}
	c := h.atRest()
	if err := h.steer(&c); err != nil {
		return err
	}
	return redirect.Apply(redirect.NewPlan(c))
}

// steer adds to c what the hooks would do.
func (h *hookless) steer(c *redirect.Config) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var err error
	c.Guards = h.guards
	c.Daemon, err = h.n.tree.DaemonPath()
	return err
}

// strict are the ports of guards, sorted, but for those that let anybody in.
func strict(guards []kernel.Guard) []uint16 {
	var out []uint16
	for _, g := range guards {
		if !g.Permissive {
			out = append(out, g.Port)
		}
	}
	slices.Sort(out)
	return out
}

// Apply takes over who is a workload, and closes ports. The table needs no
// taking over: the proxy judges by the node's own.
func (h *hookless) Apply(s kernel.State) (changed bool, err error) {
	guards := strict(s.Guards)
	h.mu.Lock()
	ports := !slices.Equal(guards, h.guards)
	changed = ports || h.table != s.Table || !maps.Equal(h.workloads, s.Workloads.Cgroups)
	h.table, h.workloads, h.guards = s.Table, s.Workloads.Cgroups, guards
	h.mu.Unlock()
	if ports {
		err = h.n.restate()
	}
	if changed {
		h.revision.Add(1)
	}
	return changed, err
}

// Origin finds out which service made the accepted connection fd: that of the
// deepest enrolled cgroup around the one where the caller's socket was made.
// Errors: *policy.Refusal with the reason identity.
func (h *hookless) Origin(fd int) (kernel.Origin, error) {
	id, err := sockdiag.CallerCgroup(fd)
	if errors.Is(err, sockdiag.ErrNoSocket) {
		return kernel.Origin{}, refuse(policy.ReasonIdentity, "the caller has gone, or is in another network namespace, where it can't be recognised without hooks")
	}
	if err != nil {
		return kernel.Origin{}, err
	}
	path, err := workload.PathOf(h.n.tree.Root(), id)
	if err != nil {
		return kernel.Origin{}, refuse(policy.ReasonIdentity, "%v", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for ; path != "/" && path != "."; path = filepath.Dir(path) {
		if id, err := workload.ID(path); err == nil && h.workloads[id] != "" {
			return kernel.Origin{Source: h.workloads[id]}, nil
		}
	}
	return kernel.Origin{}, refuse(policy.ReasonIdentity, "the caller is no workload")
}

// Events has none to hand over: what is refused, the proxy refuses.
func (h *hookless) Events(ctx context.Context, _ func(kernel.Event)) error {
	<-ctx.Done()
	return nil
}

// NumberOf is plain arithmetic.
func (h *hookless) NumberOf(a netip.Addr) (uint32, bool) {
	return kernel.NumberOf(h.n.cfg.Range4, h.n.cfg.Range6, a)
}

// Revision grows with every change.
func (h *hookless) Revision() uint64 { return h.revision.Load() }

// The rest is for hooks and has nothing to do here.

func (h *hookless) Sweep(context.Context) (int, error)          { return 0, nil }
func (h *hookless) SweepWanted() <-chan struct{}                { return nil }
func (h *hookless) Tag(int, identity.Name, identity.Name) error { return nil }
func (h *hookless) Counters() (map[policy.Reason]uint64, error) { return nil, nil }
func (h *hookless) Room([]identity.Name) ([]kernel.Room, error) { return nil, nil }
func (h *hookless) Verify() ([]string, error)                   { return nil, nil }
func (h *hookless) Repair() []bpf.Repaired                      { return nil }
func (h *hookless) SetDaemonCgroup(uint64) error                { return nil }
func (h *hookless) SetListeners(bpf.Listeners) error            { return nil }
func (h *hookless) SetServing(...int) error                     { return nil }
func (h *hookless) SetResolvers([]bpf.Resolver) error           { return nil }
func (h *hookless) Status() ([]bpf.Hook, error)                 { return nil, nil }

// unheld names the guarantees (docs/redirect-tproxy.md) that this node's way
// of capture can't hold.
func (n *Node) unheld() []string {
	if n.cfg.Redirect != redirectTPROXY {
		return nil
	}
	return []string{"fail closed (1)", "deny is complete (2)", "netfilter never guards (7)"}
}

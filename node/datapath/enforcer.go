// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"log/slog"
	"net/netip"

	"tacit/bpf"
	"tacit/identity"
	"tacit/node/config"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/kernel"
)

// Enforcer recognises callers and refuses connections in the kernel:
// *kernel.Kernel by the socket hooks, or the TPROXY backend.
type Enforcer interface {
	Apply(kernel.State) (changed bool, err error)
	Revision() kernel.Revision
	Sweep(context.Context) (cut int, err error)
	SweepWanted() <-chan struct{}
	Tag(fd int, source, destination identity.Name, owned bool) error
	Origin(fd int) (kernel.Origin, error)
	NumberOf(netip.Addr) (uint32, bool)
	Events(context.Context, func(kernel.Event)) error
	Counters() (given, lost map[policy.Reason]uint64, err error)
	Directs() (map[kernel.Direct]kernel.Sum, error)
	Room(sources []identity.Name) ([]kernel.Room, error)
	Verify() (changed []string, err error)
}

// Hooks are the programs in the kernel: *bpf.Objects, or the TPROXY backend.
type Hooks interface {
	SetListeners(bpf.Listeners) error
	SetServing(fds ...int) error
	SetResolvers([]bpf.Resolver) error
	SetDaemonCgroup(id uint64) error
	Status() ([]bpf.Hook, error)
	Repair() []bpf.Repaired
	Listening(context.Context, func()) error
	LetGo() error
	Close() error
}

// Numbers gives names their numbers; see kernel.Numbers.
type Numbers interface {
	Number(identity.Name) uint32
	Assign([]identity.Name)
	Name(uint32) (identity.Name, bool)
}

// LoadConfig is what the programs are loaded with.
type LoadConfig struct {
	Settings *config.Settled
	Tree     workload.Tree
	Numbers  Numbers
	Guards   []kernel.Guard // ports that the TPROXY backend closes at once
	Daemon   uint64         // id of the daemon's cgroup, which is exempt; 0: `tacitd guard`, nobody is
	Log      *slog.Logger
}

// Load attaches the programs, or starts the TPROXY backend.
func Load(c LoadConfig) (Hooks, Enforcer, error) {
	s := c.Settings
	if s.Redirect == config.TPROXY {
		b, err := startTPROXY(c)
		if err != nil {
			return nil, nil, err
		}
		return b, b, nil
	}
	objects, err := bpf.Load(bpf.Config{
		PinDir: s.BPFDir, Cgroup: c.Tree.Root(), Depth: c.Tree.Depth(), DaemonCgroup: c.Daemon,
		Range4: s.Range4, Range6: s.Range6, DefaultAllow: s.Action == policy.Allow,
		Limits: bpf.Limits{Intentions: s.Limits.MaxIntentions, Workloads: s.Limits.MaxWorkloads, Origins: s.Limits.MaxConnecting},
	})
	if err != nil {
		return nil, nil, err
	}
	k, err := kernel.New(kernel.Config{Objects: objects, Numbers: c.Numbers, Range4: s.Range4, Range6: s.Range6, Log: c.Log})
	if err != nil {
		_ = objects.Close() // what is pinned stays
		return nil, nil, err
	}
	return objects, k, nil
}

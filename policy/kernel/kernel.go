// SPDX-License-Identifier: Apache-2.0

// Package kernel is the bridge between names and numbers: it compiles policy
// and the catalog into the kernel's maps, and turns what the kernel reports
// back into names. It must not decide anything itself, and nothing else may
// write those maps.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"tacit/bpf"
	"tacit/identity"
	"tacit/policy"
)

// Numbers gives names their numbers. Number allocates and keeps; 0 means that
// it couldn't.
type Numbers interface {
	Number(identity.Name) uint32
	Name(uint32) (identity.Name, bool)
}

// Config is what a Kernel works with.
type Config struct {
	Objects        *bpf.Objects
	Numbers        Numbers
	Range4, Range6 netip.Prefix
	Log            *slog.Logger
}

// Kernel keeps the maps equal to a State.
type Kernel struct {
	conf     Config
	revision atomic.Uint64
	sweep    chan struct{} // the kernel asks for a sweep

	mu    sync.Mutex
	table *policy.Table // whose intentions are in the maps
	maps  maps
}

// New reads what the maps hold, so that the first Apply after a restart
// changes only what has changed.
func New(c Config) (*Kernel, error) {
	k := &Kernel{conf: c, sweep: make(chan struct{}, 1)}
	rev, err := c.Objects.Revision()
	if err != nil {
		return nil, err
	}
	k.revision.Store(rev)
	k.maps, err = readMaps(c.Objects)
	return k, err
}

// Revision grows with every change to the maps, over restarts too.
func (k *Kernel) Revision() uint64 { return k.revision.Load() }

// Apply makes the maps equal to s and says whether anything changed. What
// doesn't fit is left out and reported by an error that wraps bpf.ErrFull; the
// rest is in force all the same.
func (k *Kernel) Apply(s State) (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	want, err0 := k.compile(s)
	closed, err := k.byDefault(s.Table, policy.Deny)
	err = errors.Join(err, k.conf.Objects.SetExclusions(s.Exempt.some()))
	n, err2 := k.maps.apply(want, k.table != s.Table)
	opened, err3 := false, error(nil)
	if err2 == nil {
		opened, err3 = k.byDefault(s.Table, policy.Allow)
	}
	err = errors.Join(err0, err, err2, err3)
	if err == nil {
		k.table = s.Table
	}
	if n == 0 && !closed && !opened {
		return false, err
	}
	rev, bumpErr := k.conf.Objects.Bump()
	k.revision.Store(rev)
	return true, errors.Join(err, bumpErr)
}

// byDefault makes the kernel's default that of the table, when it is action:
// deny before the maps are changed, allow after.
func (k *Kernel) byDefault(t *policy.Table, action policy.Action) (changed bool, err error) {
	allow := action == policy.Allow
	held, err := k.conf.Objects.Default()
	if err != nil || t.Default() != action || held == allow {
		return false, err
	}
	return true, k.conf.Objects.SetDefault(allow)
}

// Sweep judges the live same-node connections again and cuts those that are
// no longer allowed. Streams that the daemon carries are the proxy's.
func (k *Kernel) Sweep(ctx context.Context) (cut int, err error) { return k.conf.Objects.Sweep(ctx) }

// Tag marks a socket of the daemon's, before it connects to a program of
// destination on this node, with the source whose stream it will carry.
func (k *Kernel) Tag(fd int, source, destination identity.Name) error {
	src, dst := k.conf.Numbers.Number(source), k.conf.Numbers.Number(destination)
	if src == 0 || dst == 0 {
		return &policy.Refusal{Reason: policy.ReasonTag, Detail: fmt.Sprintf("no number for %s or %s", source, destination)}
	}
	return k.conf.Objects.Tag(fd, src, dst)
}

// Origin is who made a captured connection, and whom it is for.
type Origin struct{ Source, Destination identity.Name }

// Origin asks the kernel about an accepted socket. Errors: *policy.Refusal
// with the reason identity.
func (k *Kernel) Origin(fd int) (Origin, error) {
	p, err := k.conf.Objects.Origin(fd)
	if errors.Is(err, bpf.ErrNoOrigin) {
		return Origin{}, &policy.Refusal{Reason: policy.ReasonIdentity, Detail: "the caller is no workload that the kernel saw connect"}
	}
	if err != nil {
		return Origin{}, err
	}
	src, known := k.conf.Numbers.Name(p.Source)
	dst, knownToo := k.conf.Numbers.Name(p.Destination)
	if !known || !knownToo {
		return Origin{}, &policy.Refusal{Reason: policy.ReasonIdentity, Detail: fmt.Sprintf("no names for the numbers %d and %d", p.Source, p.Destination)}
	}
	return Origin{src, dst}, nil
}

// SweepWanted receives when the kernel saw a same-node connection complete
// that a change of policy had overtaken.
func (k *Kernel) SweepWanted() <-chan struct{} { return k.sweep }

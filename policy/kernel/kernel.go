// SPDX-License-Identifier: Apache-2.0

// Package kernel translates between names and numbers: it compiles policy and the
// catalog into the kernel's maps, and gives names to what the kernel reports. It
// must not decide anything itself, and nothing else may write those maps.
//
// Read registry.go first: it lists the maps. The package comment of bpf says what
// to do to add one.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"tacit/bpf"
	"tacit/identity"
	"tacit/policy"
)

// Numbers gives service names their numbers. Number allocates and stores the number
// of a new name, and returns 0 where it can't. Assign does so for many names, in one
// write to disk.
type Numbers interface {
	Number(identity.Name) uint32
	Assign([]identity.Name)
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
	conf  Config
	sweep chan struct{} // the kernel asks for a sweep

	mu     sync.Mutex // guards what follows
	maps   []entry
	rules  ruleSum // of the map of intentions
	number uint64  // of the last change
	failed error   // why the policy of last isn't in force
	last   State   // as applied last
}

// New reads what the maps hold, so that the first Apply after a restart
// changes only what differs.
func New(c Config) (*Kernel, error) {
	k := &Kernel{conf: c, sweep: make(chan struct{}, 1), rules: ruleSum{numbers: c.Numbers}}
	k.maps = registry(c.Objects, &k.rules)
	var err error
	if k.number, err = c.Objects.Revision(); err != nil {
		return nil, err
	}
	return k, readAll(k.maps)
}

// Apply makes the maps equal to s and says whether anything changed. Entries
// for which a map has no room are left out and reported by an error that wraps
// bpf.ErrFull; all others are in force. Apply keeps s to compare it with the
// next one: its slices and maps must not be changed afterwards.
func (k *Kernel) Apply(s State) (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	write, err := k.plan(s)
	closed, err1 := k.setDefault(s.Table, policy.Deny)
	err1 = errors.Join(err1, k.conf.Objects.SetExclusions(s.Exempt.any()))
	n, rules, others := write()
	turned, err2 := k.turnDefault(s.Table, rules)
	if n > 0 || closed || turned {
		var bumping error
		k.number, bumping = k.conf.Objects.Bump()
		changed, err2 = true, errors.Join(err2, bumping)
	}
	k.failed = errors.Join(err, err1, rules, err2)
	return changed, errors.Join(k.failed, others)
}

// turnDefault sets the default to Allow where that is the table's, once all that
// restricts is written. While a deny isn't in its map, the default denies.
func (k *Kernel) turnDefault(t *policy.Table, failed error) (changed bool, err error) {
	switch {
	case errors.Is(failed, errOpen):
		return k.holdDefault(policy.Deny)
	case failed == nil:
		return k.setDefault(t, policy.Allow)
	}
	return false, nil
}

// plan compiles s, unless all maps hold it already. The returned function
// writes the maps in the order of the registry: at no moment they allow what
// neither the last nor the new State allows. Its errors are those of maps that keep
// the policy from being in force, and those of the others.
func (k *Kernel) plan(s State) (write func() (n int, rules, others error), err error) {
	if k.last.equal(s) && !slices.ContainsFunc(k.maps, entry.stale) {
		return func() (int, error, error) { return 0, nil, nil }, nil
	}
	c := &compiler{State: s, last: &k.last, numbers: k.conf.Numbers}
	var writes []func() (int, error)
	for _, m := range k.maps {
		writes = append(writes, m.plan(c))
	}
	k.last = s
	return func() (total int, rules, others error) {
		for i, write := range writes {
			n, e := write()
			if total += n; k.maps[i].leads() {
				others = errors.Join(others, e)
			} else {
				rules = errors.Join(rules, e)
			}
		}
		return total, rules, others
	}, c.err
}

// setDefault makes the kernel's default that of the table where that is action:
// Deny is set before the maps are written, Allow after.
func (k *Kernel) setDefault(t *policy.Table, action policy.Action) (changed bool, err error) {
	if t.Default() != action {
		return false, nil
	}
	return k.holdDefault(action)
}

func (k *Kernel) holdDefault(action policy.Action) (changed bool, err error) {
	allow := action == policy.Allow
	held, err := k.conf.Objects.Default()
	if err != nil || held == allow {
		return false, err
	}
	return true, k.conf.Objects.SetDefault(allow)
}

// Verify reads the maps and names those that something else has changed since
// they were written. The next Apply corrects them, in the order that
// never allows too much. It costs one pass over the entries.
func (k *Kernel) Verify() (changed []string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range k.maps {
		same, e := m.verify()
		if e != nil {
			err = errors.Join(err, e)
		} else if !same {
			changed = append(changed, m.name())
		}
	}
	slices.Sort(changed)
	return changed, err
}

// Sweep judges live same-node connections again, cuts those that are no longer
// allowed and returns how many. The proxy cuts the streams that the daemon carries.
func (k *Kernel) Sweep(ctx context.Context) (cut int, err error) { return k.conf.Objects.Sweep(ctx) }

// Tag marks a socket of the daemon, before it connects to an instance of
// destination on this node, with the source whose stream it will carry. With owned,
// connect() is refused unless the listener is surely the destination's. Errors: a
// *policy.Refusal with ReasonTag where a service has no number.
func (k *Kernel) Tag(fd int, source, destination identity.Name, owned bool) error {
	src, dst := k.conf.Numbers.Number(source), k.conf.Numbers.Number(destination)
	if src == 0 || dst == 0 {
		return &policy.Refusal{Reason: policy.ReasonTag, Detail: fmt.Sprintf("no number for %s or %s", source, destination)}
	}
	return k.conf.Objects.Tag(fd, bpf.Tag{Pair: bpf.Pair{Source: src, Destination: dst}, Ingress: source.IsIngress(), Owned: owned})
}

// Origin is the source and the destination of a captured connection.
type Origin struct{ Source, Destination identity.Name }

// Origin asks the kernel about an accepted socket. Errors: a *policy.Refusal with
// ReasonIdentity where the kernel has recorded no origin, or one without a name.
func (k *Kernel) Origin(fd int) (Origin, error) {
	p, err := k.conf.Objects.Origin(fd)
	if errors.Is(err, bpf.ErrNoOrigin) {
		return Origin{}, &policy.Refusal{Reason: policy.ReasonIdentity, Detail: "the connect hook has recorded no workload for this connection"}
	}
	if err != nil {
		return Origin{}, err
	}
	src, known := k.conf.Numbers.Name(p.Source)
	dst, knownToo := k.conf.Numbers.Name(p.Destination)
	if !known || !knownToo {
		return Origin{}, &policy.Refusal{Reason: policy.ReasonIdentity, Detail: fmt.Sprintf("no service for number %d or %d", p.Source, p.Destination)}
	}
	return Origin{src, dst}, nil
}

// SweepWanted receives when a same-node connection was established that policy no
// longer allows: policy changed after connect(), so a sweep may have missed it.
func (k *Kernel) SweepWanted() <-chan struct{} { return k.sweep }

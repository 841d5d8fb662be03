// SPDX-License-Identifier: Apache-2.0

package records

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"tacit/identity"
	"tacit/node/health"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// ErrUnreached: a disk that was rolled back doesn't know what its keys have signed, so
// nothing is signed before another member has told.
var ErrUnreached = errors.New("no member has been reached since this start, so nothing is signed; start tacitd with --alone if the others are gone for good")

const (
	ownAfter = 10 * time.Second // a node signs its own state without having heard: it permits nothing, and later epochs win
	patience = 5 * time.Second  // how long after the start a command waits for a member
)

// gate is open once this node may sign everything.
type gate struct {
	begun  time.Time     // when others could be heard
	opened chan struct{} // closed when it opens
	once   sync.Once
	own    chan struct{}
}

// newGate returns a gate that is open where nobody is to be waited for.
func newGate(wait bool) *gate {
	g := &gate{begun: time.Now(), opened: make(chan struct{}), own: make(chan struct{}, 1)}
	if !wait {
		close(g.opened)
	}
	return g
}

// awaitMember ends the wait of this node's own state after a while.
func (r *Records) awaitMember() {
	r.gate.begun = time.Now()
	time.AfterFunc(ownAfter, func() {
		if !r.isOpen() {
			r.conf.Health.Set(health.Exchange, "", ErrUnreached)
			r.wakeOwn()
			r.conf.Changed()
		}
	})
}

// reached opens the gate: what a member knows is merged.
func (r *Records) reached() {
	if r.isOpen() {
		return
	}
	r.gate.once.Do(func() { close(r.gate.opened) })
	r.conf.Health.Set(health.Exchange, "", nil)
	r.wakeOwn()
	r.conf.Changed()
}

func (r *Records) isOpen() bool {
	select {
	case <-r.gate.opened:
		return true
	default:
		return false
	}
}

// alone reports whether this node knows no other member.
func alone(v *ledger.View, self identity.Name) bool {
	return !slices.ContainsFunc(v.Members(), func(m statement.Member) bool { return m.Node != self })
}

// wakeOwn has this node compare what it has signed of itself with what it is.
func (r *Records) wakeOwn() {
	select {
	case r.gate.own <- struct{}{}:
	default:
	}
}

// Own is sent to when this node's own record may have to be signed, or signed again.
func (r *Records) Own() <-chan struct{} { return r.gate.own }

// OwnIn is how long this node's own state can't be signed yet.
func (r *Records) OwnIn() time.Duration {
	if r.isOpen() {
		return 0
	}
	return max(0, ownAfter-time.Since(r.gate.begun))
}

// Await waits until operators and authorities may sign, for a few seconds after the
// start. Errors: ErrUnreached.
func (r *Records) Await(ctx context.Context) error {
	left := time.NewTimer(patience - time.Since(r.gate.begun))
	defer left.Stop()
	select {
	case <-r.gate.opened:
	case <-left.C:
	case <-ctx.Done():
	}
	if !r.isOpen() {
		return ErrUnreached
	}
	return nil
}

func (r *Records) maySign(k ledger.Kind) error {
	if r.isOpen() || (k == ledger.KindNode || k == ledger.KindInstance) && r.OwnIn() == 0 {
		return nil
	}
	return ErrUnreached
}

// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tacit/identity"
	"tacit/node/config"
	"tacit/redirect/listen"
)

// Term is a daemon's time in charge: what it takes over from the one before it, and
// hands over to the one after it.
//
//	Begin ─► (opens everything) ─► Take ─► Judge ─► Answer ─► Released ─► Carry
type Term struct {
	Given     *Succession // nil: an ordinary start
	Inherited *listen.Inherited
	Before    *Predecessor
	Bench     Bench

	settings *config.Settled
	heirs    *Server
	after    *Successor
	released chan struct{}
}

// Begin asks the daemon that runs here, if this one is to take its work over.
func Begin(s *config.Settled) (*Term, error) {
	t := &Term{settings: s, released: make(chan struct{})}
	if !s.TakeOver {
		return t, nil
	}
	given, err := Ask(Path(s.RunDir), t.hello())
	if errors.Is(err, ErrNobody) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	t.Given, t.Inherited = given, listen.NewInherited(given.Sockets)
	s.Log.Info("taking over", "pid", given.PID, "version", given.Version)
	return t, nil
}

func (t *Term) hello() Hello {
	return Hello{Node: t.settings.Name, StateDir: t.settings.StateDir, BPFDir: t.settings.BPFDir}
}

// Take has the incumbent let go, now that everything is open.
func (t *Term) Take() (err error) {
	if t.Given != nil {
		if t.Before, err = t.Given.Take(); err != nil {
			return err
		}
	}
	t.heirs, err = Listen(Path(t.settings.RunDir), t.settings.Log)
	return err
}

// Judge begins to answer for the policy that is in force here now. defined says whether
// there is an ingress of a name.
func (t *Term) Judge(defined func(identity.Name) bool) {
	t.Before.Judge(judge{&t.Bench, defined})
	t.Inherited.Close()
}

// Earlier are the daemons that still carry streams, or run.
func (t *Term) Earlier() []int {
	if t.Before != nil {
		return t.Before.Daemons()
	}
	return t.Given.Daemons()
}

// Answer answers successors until one has taken over.
func (t *Term) Answer(ctx context.Context, p Parts) error {
	s, err := t.heirs.Run(ctx, office{t, p})
	if s != nil {
		t.after = s
		close(t.released)
	}
	return err
}

// Released is closed when another daemon has taken over.
func (t *Term) Released() <-chan struct{} { return t.released }

// Successor is the process that has taken over.
func (t *Term) Successor() int { return t.after.PID() }

// Carry is the rest of a daemon's life once another has taken over and its parts have
// been told to end: it carries the streams that it has, while that one lets it.
func (t *Term) Carry(ctx context.Context, p Parts, streams Streams) {
	log := t.settings.Log
	log.Info("another tacitd has taken over; carrying the live streams to their ends", "pid", t.Successor(), "live", len(streams.Flows()), "at_most", t.settings.Drain)
	p.retire()
	err := t.Bench.Carry(ctx, t.after, streams, t.Before, t.settings.Drain)
	log.Info("the live streams have ended, or are cut now", "live", len(streams.Flows()), "err", err)
}

// Cancel lets the incumbent go on.
func (t *Term) Cancel() {
	if t != nil {
		t.Given.Cancel()
	}
}

// Close ends what Take and Carry have begun.
func (t *Term) Close() error {
	t.Bench.Close()
	if t.heirs == nil {
		return nil
	}
	return t.heirs.Close()
}

// office is the Incumbent of a term.
type office struct {
	*Term
	parts Parts
}

func (o office) Hold(h Hello) (state State, sockets Sockets, err error) {
	if own := o.hello(); h.Node != own.Node || h.StateDir != own.StateDir || h.BPFDir != own.BPFDir {
		return state, nil, fmt.Errorf("it runs with --node %s, --state-dir %s and --bpffs-dir %s", own.Node, own.StateDir, own.BPFDir)
	}
	if left, waits := o.parts.Unconfirmed(); waits {
		return state, nil, fmt.Errorf("it waits for tacit confirm, for %s more", left.Round(time.Second))
	}
	state = State{Version: o.settings.Version, Beside: o.Before.Daemons()}
	sockets, err = o.parts.hold(&state)
	return state, sockets, err
}

func (o office) Resume() { o.warn("going on without a successor", o.parts.resume()) }

// Release ends gossip: two can't gossip by one name.
func (o office) Release() {
	o.warn("closing gossip", o.parts.Gossip.Close())
	o.warn("letting go of programs", o.parts.Programs.LetGo())
}

func (o office) warn(what string, err error) {
	if err != nil {
		o.settings.Log.Warn(what, "err", err)
	}
}

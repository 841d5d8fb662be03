// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"slices"
	"time"

	"tacit/policy"
	"tacit/tproxy/lane/message"
)

const (
	connectBudget = 3 * time.Second        // for all attempts together
	attemptLimit  = 900 * time.Millisecond // for one attempt, while another instance is left
	attemptsLimit = 8
	replaysLimit  = 2                      // of bytes that an instance has got: they may be what ends it
	repeatPause   = 200 * time.Millisecond // before an instance is tried again
)

// attempts are the instances that one stream has tried.
type attempts struct {
	target   Target
	ctx      context.Context // of the search for an instance; nil: there is none now
	held     bool            // target is to be reported as failed or ended
	answered bool            // by target: with at least one byte, or FIN
	tried    []Target
	replays  int       // times that an instance was lost that had got bytes
	deadline time.Time // no attempt begins afterwards
	opened   time.Time // when the present instance took the stream
}

// open finds the first instance.
func (r *route) open() {
	r.deadline = time.Now().Add(connectBudget)
	r.settle(nil)
}

// elsewhere finds another instance.
func (r *route) elsewhere(loss *policy.Refusal) {
	if time.Since(r.opened) > 2*attemptLimit { // it wasn't one of a row of failures
		r.deadline, r.tried = time.Now().Add(connectBudget), []Target{r.target}
	}
	r.settle(loss)
}

// settle ends the stream if no instance takes it.
func (r *route) settle(loss error) {
	if err := r.connect(loss); err != nil {
		r.p.refused(r.s, err, policy.ReasonLane)
	}
}

// connect tries instances until one takes the stream and what was kept of it.
// loss is why the last one was given up; nil: none was tried. Errors are
// *policy.Refusal.
func (r *route) connect(loss error) error {
	defer r.search()()
	for {
		if err := r.pick(loss); err != nil {
			return err
		}
		loss = r.attempt()
		if loss == nil {
			return nil
		}
		reason := policy.ReasonOf(loss, policy.ReasonLane)
		r.failed(reason)
		if !r.mayMove(reason) {
			return loss
		}
	}
}

// pick chooses the next instance. One whose node was lost, or whose daemon makes way for
// another one, is tried once more if nothing else is left.
func (r *route) pick(loss error) error {
	if err := r.p.allowed(r.s, r.origin.Source, r.origin.Destination); err != nil {
		return err
	}
	t, err := r.p.cfg.Router.Pick(r.origin, r.tried)
	if err != nil {
		if loss != nil {
			return loss
		}
		return asRefusal(err, policy.ReasonInstance)
	}
	if !r.hold(t) {
		r.p.cfg.Router.Report(t, Ended)
		return policy.Refuse(policy.ReasonChanged, "cut while it was being opened")
	}
	before := 0
	for _, old := range r.tried {
		if t.same(old) {
			before++
		}
	}
	r.tried = append(r.tried, t)
	if before > 0 && (before > 1 || !slices.Contains(again, policy.ReasonOf(loss, "")) || !r.pause()) {
		r.report(Ended)
		return loss
	}
	return nil
}

// pause waits before an instance is tried again; false: the stream was cut.
func (r *route) pause() bool {
	timer := time.NewTimer(repeatPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// attempt opens the stream to the present target. Once that has succeeded, the route
// belongs to the loop.
func (r *route) attempt() error {
	end := r.deadline
	if soon := time.Now().Add(attemptLimit); r.target.Others && soon.Before(end) {
		end = soon
	}
	ctx, cancel := context.WithDeadline(r.ctx, end)
	defer cancel()
	t, o := r.target, r.origin
	r.s.place(o, t)
	if t.Service != o.Destination {
		if err := r.p.cfg.Router.Decide(o.Source, t.Service).Err(); err != nil {
			return err
		}
	}
	r.passed, r.opened = 0, time.Now()
	r.settled = t.Retry == RetryNever
	if t.Local {
		return r.openHere(ctx)
	}
	if err := r.p.granted(t.Node, t.Service); err != nil {
		return err
	}
	_, err := r.p.open(ctx, r.s.thread.Loop, t.peer(), message.Opening{Source: o.Source, Destination: t.Service,
		Instance: t.Instance, Port: t.Port, Client: o.Client}, r.s)
	return err
}

// openHere joins the stream to a program that this node reaches by itself.
func (r *route) openHere(ctx context.Context) error {
	t, o := r.target, r.origin
	in := Inbound{Source: o.Source, Destination: t.Service, Port: t.Port, Instance: t.Instance, Owner: t.Node, Client: o.Client}
	ended := make(chan error, 1)
	err := r.p.dial(ctx, r.s, in, func(second *program, err error) {
		ended <- err
		if err == nil {
			r.s.joinSecond(second)
		}
	})
	if err != nil {
		return err
	}
	return <-ended
}

// mayMove says whether the stream may go to another instance after a loss.
func (r *route) mayMove(reason policy.Reason) bool {
	if r.target.Retry == RetryNever || r.cut() || len(r.tried) >= attemptsLimit || time.Now().After(r.deadline) {
		return false
	}
	if slices.Contains(refusedThere, reason) {
		return true
	}
	if !slices.Contains(lost, reason) {
		return false
	}
	if r.passed == 0 && !r.s.finSent {
		return true
	}
	r.replays++
	return r.target.Retry != RetryConnect && r.replays <= replaysLimit
}

var (
	// refusedThere are reasons with which no program has got the stream. Verdicts of
	// the policy are not among them: they are final.
	refusedThere = []policy.Reason{policy.ReasonDial, policy.ReasonListener, policy.ReasonInstance, policy.ReasonGrant,
		policy.ReasonProof, policy.ReasonLimit, policy.ReasonMember}
	// lost are reasons with which a program may have got the stream.
	lost = []policy.Reason{policy.ReasonLane, policy.ReasonReset, policy.ReasonDrain, policy.ReasonExpired,
		policy.ReasonRevoked, policy.ReasonIdle, policy.ReasonProtocol}
	// again are losses after which the same instance may take the stream.
	again = []policy.Reason{policy.ReasonLane, policy.ReasonDrain}
	// faults are the losses that count against an instance.
	faults = []policy.Reason{policy.ReasonDial, policy.ReasonListener, policy.ReasonInstance, policy.ReasonLane, policy.ReasonReset}
)

// failed reports a loss, if it counts against the instance.
func (r *route) failed(reason policy.Reason) {
	how := Ended
	if slices.Contains(faults, reason) && !r.cut() {
		how = Failed
		r.p.cfg.Log.Debug("instance lost before its answer", "source", r.origin.Source, "destination", r.target.Service,
			"node", r.target.Node, "id", r.target.Instance, "attempt", len(r.tried), "reason", reason)
	}
	r.report(how)
}

// report tells what became of the target, once.
func (r *route) report(how Result) {
	r.mu.Lock()
	held, t := r.held, r.target
	r.held = false
	r.mu.Unlock()
	if held {
		r.p.cfg.Router.Report(t, how)
	}
}

// hold makes an instance the target; false: the stream is over.
func (r *route) hold(t Target) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	r.target, r.held, r.answered = t, true, false
	return true
}

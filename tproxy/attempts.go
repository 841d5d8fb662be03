// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"slices"
	"time"

	"tacit/policy"
	"tacit/tproxy/lane"
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
	held     bool // target is to be reported as failed or ended
	tried    []Target
	replays  int       // times that an instance was lost that had got bytes
	running  bool      // an instance was found once: the stream's writer reads from the program
	deadline time.Time // no attempt begins afterwards
	opened   time.Time // when the present instance took the stream
}

// open finds the first instance.
func (r *route) open() error {
	r.sending.Lock()
	defer r.sending.Unlock()
	r.deadline = time.Now().Add(connectBudget)
	err := r.connect(nil)
	r.running = true
	if r.target.Retry == RetryNever {
		r.settled.Store(true)
	}
	return err
}

// elsewhere carries the stream from an instance that was lost before it had
// answered to another one. It returns the loss where it can't.
func (r *route) elsewhere(loss error) error {
	r.rest()
	reason := policy.ReasonOf(loss, policy.ReasonReset)
	if !r.sending.TryLock() {
		r.with(endpoint.Interrupt) // a write that waits for the lost instance
		r.sending.Lock()
	}
	defer r.sending.Unlock()
	r.failed(reason)
	if r.settled.Load() || !r.mayMove(reason) {
		return loss
	}
	if time.Since(r.opened) > 2*attemptLimit { // it wasn't one of a row of failures
		r.deadline, r.tried = time.Now().Add(connectBudget), []Target{r.target}
	}
	old := r.to
	r.set(nil)
	old.Close()
	return r.connect(policy.Refuse(reason, "%v", loss))
}

// connect tries instances until one takes the stream and what was kept of it.
// loss is why the last one was given up; nil: none was tried. Errors are
// *policy.Refusal.
func (r *route) connect(loss error) error {
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

// pick chooses the next instance. One whose node was lost is tried once more if
// nothing else is left.
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
	r.target, r.held = t, true
	before := 0
	for _, old := range r.tried {
		if t.same(old) {
			before++
		}
	}
	r.tried = append(r.tried, t)
	if before > 0 && (before > 1 || policy.ReasonOf(loss, "") != policy.ReasonLane || !r.pause()) {
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

// attempt opens the stream to the present target and sends what was kept.
func (r *route) attempt() error {
	end := r.deadline
	if soon := time.Now().Add(attemptLimit); r.target.Others && soon.Before(end) {
		end = soon
	}
	ctx, cancel := context.WithDeadline(r.ctx, end)
	defer cancel()
	r.passed = 0
	to, err := r.dial(ctx)
	if err != nil {
		return err
	}
	if err = r.replay(to); err == nil && !r.set(to) {
		err = policy.Refuse(policy.ReasonChanged, "cut while it was being opened")
	}
	if err != nil {
		to.Reset(policy.ReasonOf(err, policy.ReasonReset))
		to.Interrupt()
		to.Close()
		return asRefusal(err, policy.ReasonReset)
	}
	r.opened = time.Now()
	r.guard(to)
	return nil
}

func (r *route) dial(ctx context.Context) (endpoint, error) {
	t, o := r.target, r.origin
	r.s.place(o, t)
	if t.Service != o.Destination {
		if err := r.p.cfg.Router.Decide(o.Source, t.Service).Err(); err != nil {
			return nil, err
		}
	}
	if t.Local {
		e, err := r.p.dialProgram(ctx, r.s, Inbound{Source: o.Source, Destination: t.Service, Port: t.Port, Instance: t.Instance, Owner: t.Node, Client: o.Client})
		if err != nil {
			return nil, err
		}
		return e, nil
	}
	if err := r.p.granted(t.Node, t.Service); err != nil {
		return nil, err
	}
	e, err := r.p.lanes.Open(ctx, t.peer(), lane.Opening{Source: o.Source, Destination: t.Service,
		Instance: t.Instance, Port: t.Port, Client: o.Client}, r.firstBytes)
	if err != nil {
		return nil, err
	}
	return e, nil
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
	if r.passed == 0 && !r.fin {
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

func (r *route) report(how Result) {
	if r.held {
		r.held = false
		r.p.cfg.Router.Report(r.target, how)
	}
}

// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"sync"

	"tacit/policy"
)

// replayLimit is how many bytes are kept for another instance. A stream that has
// sent more stays where it is. It is as much as a stream may send at first.
const replayLimit = 64 << 10

// route is where a captured stream goes: the instance that carries it now. Until the
// first byte of an answer it keeps what the program has sent, and when the instance is
// lost it carries the stream to another one.
//
// The route belongs to a goroutine (attempts) while it looks for an instance, which may
// take long, and to the stream's loop while an instance has the stream.
type route struct {
	p      *Proxy
	s      *stream
	origin Origin
	attempts
	kept

	mu     sync.Mutex         // guards what follows, and what attempts says of it
	over   bool               // the stream is: no further instance is held
	cancel context.CancelFunc // ends the search for an instance; nil: there is none now
}

// kept is what another instance must be sent.
type kept struct {
	bytes   []byte
	passed  int  // how many of bytes the present instance was sent
	settled bool // the instance stays until the end: it has answered, or too much was sent to replay it
}

func (p *Proxy) newRoute(s *stream, o Origin) *route {
	return &route{p: p, s: s, origin: o}
}

// hear notes that the instance has answered.
func (r *route) hear() {
	if r.answered {
		return
	}
	r.answered, r.settled, r.tried = true, true, nil
	r.forget()
	r.p.cfg.Router.Report(r.target, Answered)
}

// keep keeps the n bytes that were read into areas.
func (r *route) keep(areas [][]byte, n int) {
	if r.settled {
		return
	}
	if len(r.bytes)+n > replayLimit {
		r.settled = true
		r.forget()
		return
	}
	for _, a := range areas {
		k := min(n, len(a))
		r.bytes = append(r.bytes, a[:k]...)
		n -= k
	}
	r.passed = len(r.bytes)
}

// forget frees what was kept, once it isn't needed.
func (r *route) forget() {
	if r.settled && r.passed == len(r.bytes) {
		r.bytes, r.passed = nil, 0
	}
}

// behind says whether the present instance must be sent bytes again first.
func (r *route) behind() bool { return r.passed < len(r.bytes) }

// replay sends the present instance some of them; false: there is no room now.
func (r *route) replay(to far) bool {
	areas := to.Areas(true)
	n := 0
	for _, a := range areas {
		n += copy(a, r.bytes[r.passed+n:])
	}
	if n == 0 {
		return false
	}
	r.passed += n
	to.Commit(n)
	r.forget()
	return true
}

// leave carries the stream from an instance that was lost before it had answered to
// another one; false: it can't. It is called on the loop.
func (r *route) leave(why *policy.Refusal) bool {
	if r.answered {
		return false // it has ended, not failed
	}
	r.failed(why.Reason)
	if r.settled || !r.mayMove(why.Reason) || !r.p.enter() {
		return false
	}
	go func() {
		defer r.p.work.Done()
		r.elsewhere(why)
	}()
	return true
}

// close ends the search for an instance, too.
func (r *route) close() {
	r.mu.Lock()
	r.over = true
	if r.cancel != nil {
		r.cancel()
	}
	r.mu.Unlock()
	r.report(Ended)
}

// search begins to look for an instance. Its context is held no longer than that: most
// streams have none.
func (r *route) search() (end func()) {
	ctx, cancel := context.WithCancel(r.p.ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ctx, r.cancel = ctx, cancel
	if r.over {
		cancel()
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.ctx == ctx { // else the instance was lost already, and the next search is on
			r.ctx, r.cancel = nil, nil
		}
		cancel()
	}
}

// cut says whether the stream was ended by this node.
func (r *route) cut() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.over || r.p.ctx.Err() != nil
}

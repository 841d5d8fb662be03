// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"tacit/policy"
	"tacit/tproxy/lane"
)

// replayLimit is how many bytes are kept for another instance. A stream that has
// sent more stays where it is.
const replayLimit = 64 << 10

var errLost = policy.Refuse(policy.ReasonLane, "the instance is lost, and there is no other")

// route is the far endpoint of a captured stream: the instance that the stream is
// carried to. Until the first byte of an answer it keeps what the program has
// sent, and when the instance is lost it carries the stream to another one.
type route struct {
	p      *Proxy
	s      *stream
	origin Origin
	near   *programEnd
	ctx    context.Context
	cancel context.CancelFunc

	answered atomic.Bool // by at least one byte, or FIN
	settled  atomic.Bool // to stays until the end: answered, or too much was sent to replay it

	// sending is held during every write, and while the stream is carried to
	// another instance, until the route is settled. It guards kept.
	sending sync.Mutex
	kept

	mu    sync.Mutex
	to    endpoint // nil: none yet, or the last one is lost
	over  bool     // interrupted: no further instance is tried
	vigil *vigil   // over to; nil: none

	attempts // used only by the goroutine that opens the route and reads from it
}

// kept is what another instance must be sent.
type kept struct {
	bytes  []byte
	passed int  // how many of bytes the present instance was sent
	fin    bool // the program has half-closed
}

func (p *Proxy) newRoute(s *stream, o Origin, near *programEnd) *route {
	r := &route{p: p, s: s, origin: o, near: near}
	r.ctx, r.cancel = context.WithCancel(p.ctx)
	return r
}

// Read reads the answer. An error before its first byte makes the reader carry
// the stream elsewhere, if it may.
func (r *route) Read() (*lane.Block, int, error) {
	for {
		b, n, err := r.to.Read()
		if r.answered.Load() {
			return b, n, err
		}
		if err == nil || errors.Is(err, io.EOF) || errors.Is(err, lane.ErrWoken) {
			r.hear()
			return b, n, err
		}
		if err := r.elsewhere(err); err != nil {
			return nil, 0, err
		}
	}
}

// hear notes that the instance has answered.
func (r *route) hear() {
	r.answered.Store(true)
	r.settled.Store(true)
	r.forget()
	r.p.cfg.Router.Report(r.target, Answered)
	r.rest()
}

// forget frees what was kept, once the route is settled. Whoever holds sending
// meanwhile calls forget afterwards.
func (r *route) forget() {
	if r.settled.Load() && r.sending.TryLock() {
		r.bytes = nil
		r.sending.Unlock()
	}
}

func (r *route) Write(b *lane.Block, n int) error {
	if r.settled.Load() {
		return r.to.Write(b, n)
	}
	err := r.writeKept(b, n)
	r.forget()
	return err
}

// writeKept keeps the bytes and passes them on. A failure is left to the reader,
// which replays them elsewhere; Interrupt makes sure that the reader notices.
func (r *route) writeKept(b *lane.Block, n int) error {
	r.sending.Lock()
	defer r.sending.Unlock()
	if r.to == nil {
		return errLost
	}
	if len(r.bytes)+n > replayLimit {
		r.settled.Store(true)
	} else {
		r.bytes = append(r.bytes, b.Payload()[:n]...)
	}
	err := r.to.Write(b, n)
	if err != nil && !r.settled.Load() {
		r.to.Interrupt()
		return nil
	}
	r.passed = len(r.bytes)
	return err
}

// CloseWrite half-closes, also at a later instance.
func (r *route) CloseWrite() error {
	r.sending.Lock()
	defer r.sending.Unlock()
	r.fin = true
	if r.to == nil {
		return errLost
	}
	err := r.to.CloseWrite()
	if err != nil && !r.settled.Load() {
		r.to.Interrupt()
		return nil
	}
	return err
}

// firstBytes is what may go along with the opening of a stream: what was sent to
// an earlier instance, or else what the program has sent so far.
func (r *route) firstBytes(into []byte) int {
	if len(r.bytes) == 0 && !r.running {
		n := r.near.firstBytes(into)
		r.bytes = append(r.bytes, into[:n]...)
		r.s.out.bytes.Add(uint64(n))
	}
	n := copy(into, r.bytes[r.passed:])
	r.passed += n
	return n
}

// replay sends the present instance what the program has sent so far.
func (r *route) replay(to endpoint) error {
	for r.passed < len(r.bytes) {
		b := r.p.blocks.Get()
		n := copy(b.Payload(), r.bytes[r.passed:])
		err := to.Write(b, n)
		r.p.blocks.Put(b)
		if err != nil {
			return err
		}
		r.passed += n
	}
	if r.fin {
		return to.CloseWrite()
	}
	return nil
}

// set makes an endpoint the present one; false: the stream was cut.
func (r *route) set(to endpoint) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over && to != nil {
		return false
	}
	r.to = to
	return true
}

// with calls f with the present endpoint, if there is one. An endpoint is closed
// only once with can't return it any more: its lane may carry another stream then.
func (r *route) with(f func(endpoint)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.to != nil {
		f(r.to)
	}
}

// Interrupt ends the present attempt too, and lets no other begin.
func (r *route) Interrupt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	r.cancel()
	if r.to != nil {
		r.to.Interrupt()
	}
}

func (r *route) Wake() { r.with(endpoint.Wake) }

func (r *route) Reset(reason policy.Reason) {
	if r.settled.Load() {
		r.to.Reset(reason) // without mu, since it may wait for the peer
		return
	}
	r.with(func(to endpoint) { to.Reset(reason) })
}

func (r *route) Dead() (dead bool) {
	r.with(func(to endpoint) { dead = to.Dead() })
	return dead
}

func (r *route) cut() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.over
}

func (r *route) Close() {
	r.cancel()
	r.rest()
	if to := r.to; to != nil && r.set(nil) {
		to.Close()
	}
	r.report(Ended)
}

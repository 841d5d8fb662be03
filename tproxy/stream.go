// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tacit/policy"
	"tacit/tproxy/lane"
)

// stream is one connection from its acceptance to its flow record. near is the socket
// of the program here; far is a stream on a lane, or the socket of a second program
// here. Both are used on the stream's loop only.
type stream struct {
	p       *Proxy
	thread  *thread
	out, in atomic.Uint64 // bytes passed on to the far end, and from it
	counted bool          // Close waits for this stream; used by begin and finish
	entry   Entry         // where it came in; nil: on a lane
	route   *route        // nil: it came in on a lane

	carried

	mu     sync.Mutex // guards what follows
	record Flow
	end    policy.Reason // why the stream was broken; the first one stays
}

func (p *Proxy) newStream(f Flow, t *thread) *stream {
	f.Start = time.Now()
	return &stream{p: p, thread: t, record: f}
}

// flow is the current flow record.
func (s *stream) flow() Flow {
	s.mu.Lock()
	f := s.record
	f.End = s.end
	s.mu.Unlock()
	f.Sent, f.Received = s.out.Load(), s.in.Load()
	if f.Direction == DirectionIn {
		f.Sent, f.Received = f.Received, f.Sent
	}
	f.Duration = time.Since(f.Start)
	return f
}

// stop breaks the stream unless it is over or broken already: its loop resets both
// ends. It doesn't block, and may be called from any goroutine.
func (s *stream) stop(r policy.Reason) bool {
	if !s.mark(r) {
		return false
	}
	s.thread.Do(s.breakOff)
	return true
}

// mark notes the reason of the end; false: there is one.
func (s *stream) mark(r policy.Reason) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != "" {
		return false
	}
	s.end = r
	return true
}

func (s *stream) reason() policy.Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// fail breaks the stream, on its loop.
func (s *stream) fail(r policy.Reason) {
	if s.over {
		return
	}
	s.mark(r)
	s.breakOff()
}

// breakOff resets both ends.
func (s *stream) breakOff() {
	if s.over {
		return
	}
	if s.near != nil {
		s.near.Reset("")
	}
	if s.far != nil {
		s.far.Reset(s.reason())
	}
	s.finished()
	if s.dialling != nil {
		s.dialling.connectEnded(nil)
	}
}

// finished ends the stream.
func (s *stream) finished() {
	s.over, s.far = true, nil
	if s.route != nil {
		s.route.close()
		s.entry.Left(s.route.origin)
	}
	s.p.finish(s)
}

// place records where the stream goes. From here on sweeps judge it by the service
// that answers, too.
func (s *stream) place(o Origin, t Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.record
	f.Destination, f.For, f.Port, f.DialledFrom = t.Service, "", t.Port, netip.AddrPort{}
	if t.Service != o.Destination {
		f.For = o.Destination
	}
	f.Node, f.Direction = t.Node, DirectionOut
	if t.Local {
		f.Node, f.Direction = "", DirectionLocal
	}
}

// dialled records the source address of the connection to the program here.
func (s *stream) dialled(from netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record.DialledFrom = from
}

// Opened is lane.User's.
func (s *stream) Opened(on *lane.Stream) { s.join(on) }

// Deliver is lane.User's.
func (s *stream) Deliver(parts [][]byte) {
	if s.route != nil {
		s.route.hear()
	}
	s.took(s.near.write(parts))
}

// End is lane.User's.
func (s *stream) End() {
	if s.route != nil {
		s.route.hear()
	}
	s.farEOF, s.near.fin = true, true
	s.drain()
	s.settle()
}

// Room is lane.User's.
func (s *stream) Room() { s.schedule() }

// Lost is lane.User's. A stream that wasn't answered yet may be carried to another
// instance.
func (s *stream) Lost(why *policy.Refusal) {
	if s.over {
		return
	}
	s.far = nil
	if s.route == nil || !s.route.leave(why) {
		s.fail(why.Reason)
	}
}

// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tacit/policy"
	"tacit/tproxy/lane"
)

// stream is one connection from its acceptance to its flow record. near is the
// socket of the program here; far is a lane, or the socket of a second program
// here.
type stream struct {
	p    *Proxy
	out  direction // near to far
	in   direction // far to near
	ends atomic.Int32

	counted bool  // Close waits for this stream; used by begin and finish
	entry   Entry // where it came in; nil: on a lane

	mu        sync.Mutex
	record    Flow
	near, far endpoint
	end       policy.Reason // why the stream was broken; the first one stays
	over      bool          // both endpoints are closed, or about to be
}

// direction is what is known of one direction of a stream.
type direction struct {
	bytes   atomic.Uint64
	blocked atomic.Uint64 // the round of upkeep in which the current write began; 0: no write
}

func (p *Proxy) newStream(f Flow) *stream {
	f.Start = time.Now()
	return &stream{p: p, record: f}
}

// flow is the current flow record.
func (s *stream) flow() Flow {
	s.mu.Lock()
	f := s.record
	f.End = s.end
	s.mu.Unlock()
	f.Sent, f.Received = s.out.bytes.Load(), s.in.bytes.Load()
	if f.Direction == DirectionIn {
		f.Sent, f.Received = f.Received, f.Sent
	}
	f.Duration = time.Since(f.Start)
	return f
}

// stop breaks the stream unless it is over or broken already: it resets the
// program here and interrupts the far endpoint. It doesn't block.
func (s *stream) stop(r policy.Reason) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.end != "" {
		return false
	}
	s.end = r
	if s.near != nil {
		s.near.Interrupt()
	}
	if s.far != nil {
		s.far.Interrupt()
	}
	return true
}

func (s *stream) reason() policy.Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
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
func (s *stream) dialled(from net.Addr) {
	at, ok := from.(*net.TCPAddr)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record.DialledFrom = at.AddrPort()
}

// attach gives the stream an endpoint, unless it was cut meanwhile.
func (s *stream) attach(place *endpoint, to endpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != "" {
		return policy.Refuse(s.end, "cut while it was being opened")
	}
	*place = to
	return nil
}

// run copies until both directions have ended, and closes both endpoints. It
// starts one goroutine besides the caller's.
func (s *stream) run() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.pump(s.near, s.far, &s.out)
	}()
	s.pump(s.far, s.near, &s.in)
	<-done
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.near.Close()
	s.far.Close()
}

// pump copies one direction. It goes on reading after FIN, to pass on a later
// reset; the direction that ends second wakes the other's read.
func (s *stream) pump(from, to endpoint, d *direction) {
	for {
		b, n, err := from.Read()
		switch {
		case err == nil:
			s.write(to, b, n, d)
			s.p.blocks.Put(b)
		case errors.Is(err, io.EOF):
			last := s.ends.Add(1) == 2 // before FIN: at once, the peer may open the lane's next stream, which ends the other read
			if err := to.CloseWrite(); err != nil {
				s.fail(policy.ReasonOf(err, policy.ReasonReset))
			}
			if last {
				to.Wake()
				return
			}
		case errors.Is(err, lane.ErrWoken) && s.ends.Load() == 2:
			return
		default:
			s.fail(policy.ReasonOf(err, policy.ReasonReset))
			return
		}
	}
}

// write passes a block on. After a failure, pump reads on until its source has
// ended too, which fail has reset.
func (s *stream) write(to endpoint, b *lane.Block, n int, d *direction) {
	d.blocked.Store(s.p.tick.Load())
	err := to.Write(b, n)
	d.blocked.Store(0)
	if err != nil {
		s.fail(policy.ReasonOf(err, policy.ReasonReset))
		return
	}
	d.bytes.Add(uint64(n))
}

// fail breaks the stream and resets both ends.
func (s *stream) fail(r policy.Reason) {
	s.stop(r)
	s.near.Reset(s.reason())
	s.far.Reset(s.reason())
}

// stalled says whether a write has been blocked for a second or more.
func (s *stream) stalled(d *direction) bool {
	began := d.blocked.Load()
	return began != 0 && s.p.tick.Load()-began >= uint64(time.Second/lane.UpkeepPeriod)
}

// cutStalled ends a stream whose write to one endpoint is blocked after the other
// endpoint's connection has ended: no read would notice until the write is done.
func (s *stream) cutStalled() {
	if !s.stalled(&s.out) && !s.stalled(&s.in) {
		return
	}
	s.mu.Lock()
	near, far, over := s.near, s.far, s.over
	s.mu.Unlock()
	if over || near == nil || far == nil {
		return
	}
	if s.stalled(&s.out) && near.Dead() {
		s.stop(policy.ReasonReset)
	}
	if s.stalled(&s.in) && far.Dead() {
		s.stop(policy.ReasonLane)
	}
}

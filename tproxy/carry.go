// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"tacit/policy"
)

// carried is the state of a stream on its loop.
//
//	near ── read ──► far        nearEOF: FIN was read here; finSent: and passed on
//	near ◄── write ─ far        farEOF: FIN came from there
//
// The stream is over when FIN has gone both ways and all bytes were taken, or when one
// end was reset or lost: then the other one is reset too.
type carried struct {
	near     *program
	far      far      // nil: no instance has it now
	dialling *program // connect() to the near or the far program has not ended yet
	wide     bool
	queued   bool // Run comes in its turn
	limited  bool // the near program was reset: the stream ends soon
	nearEOF  bool
	finSent  bool
	farEOF   bool
	over     bool
}

// far is the far end of a stream.
type far interface {
	// Areas returns where bytes may be put; none: there is no room now. Commit comes
	// after each Areas that gave room, and sends the first n bytes.
	Areas(wide bool) [][]byte
	Commit(n int)
	Fin()
	Reset(policy.Reason)
	// Took says that the near program has taken n bytes.
	Took(n int)
}

// join begins to carry between the near program and a far end.
func (s *stream) join(f far) {
	if s.over {
		f.Reset(s.reason())
		return
	}
	s.far, s.finSent = f, false
	s.near.moved = s.schedule
	if err := s.near.watch(); err != nil {
		s.fail(policy.ReasonLimit)
		return
	}
	s.schedule()
}

// readsPerRun is how many reads of a stream one run has room for.
const readsPerRun = 2

// schedule makes the stream do what it can in its turn.
func (s *stream) schedule() {
	if !s.queued {
		s.queued = true
		s.thread.Queue(s)
	}
}

// Run is loop.Runner's: it does all that can be done now, or a share of it.
func (s *stream) Run() {
	s.queued = false
	s.drain()
	second, two := s.far.(*program)
	if two {
		second.flush()
	}
	for n := 0; s.send(); n++ {
		if n == readsPerRun {
			s.schedule()
			break
		}
	}
	if two {
		s.receive(second)
	}
	s.checkFailed()
	s.settle()
}

// checkFailed ends a stream whose near program was reset after its FIN. Before its FIN,
// reading finds the reset, behind what the program has sent; it is given a second where
// the far end takes nothing.
func (s *stream) checkFailed() {
	switch {
	case s.over || s.near == nil || !s.near.failed:
	case s.nearEOF:
		s.fail(policy.ReasonReset)
	case !s.limited:
		s.limited = true
		s.thread.after(failedLimit, func() { s.fail(policy.ReasonReset) })
	}
}

// failedLimit is how long what a program has sent before it was reset may take.
const failedLimit = time.Second

// send passes on what the near program has sent, once; false: there is nothing more
// to do now.
func (s *stream) send() bool {
	if s.far == nil || s.finSent || s.over {
		return false
	}
	if s.route != nil && s.route.behind() {
		return s.route.replay(s.far)
	}
	if s.nearEOF {
		s.finSent = true
		s.far.Fin()
		return false
	}
	if !s.near.readable {
		return false
	}
	areas := s.far.Areas(s.wide)
	if len(areas) == 0 || s.over || s.far == nil {
		return false
	}
	n, err := s.near.read(areas)
	if n == 0 {
		s.far.Commit(0)
	}
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false
	case err != nil:
		s.fail(policy.ReasonReset)
		return false
	case n == 0:
		s.nearEOF = true
		return true
	}
	s.wide = n == size(areas)
	if s.route != nil {
		s.route.keep(areas, n)
	}
	s.out.Add(uint64(n))
	s.far.Commit(n)
	return true
}

// drain writes what the near program has not taken yet.
func (s *stream) drain() {
	if s.over || s.near == nil {
		return
	}
	s.took(s.near.flush())
}

func (s *stream) took(n int) {
	if n > 0 && s.far != nil {
		s.in.Add(uint64(n))
		s.far.Took(n)
	}
}

// settle ends the stream when FIN has gone both ways and everything was taken. One that
// was stopped meanwhile is reset instead.
func (s *stream) settle() {
	if s.over || !s.finSent || !s.farEOF || !s.near.finSent || s.reason() != "" {
		return
	}
	if second, ok := s.far.(*program); ok {
		if !second.finSent {
			return
		}
		second.close()
	}
	s.near.close()
	s.finished()
}

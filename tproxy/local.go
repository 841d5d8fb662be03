// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"errors"

	"golang.org/x/sys/unix"

	"tacit/policy"
)

// receive passes on what a second program of this node has sent.
func (s *stream) receive(from *program) {
	if from.failed && s.farEOF {
		s.secondBroke(unix.ECONNRESET)
	}
	for n := 0; !s.over && !s.farEOF && from.readable && len(s.near.queue) == 0; n++ {
		if n == readsPerRun {
			s.schedule()
			return
		}
		k, err := from.read(s.thread.scratch)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			s.secondBroke(err)
			return
		case k == 0:
			s.End()
			return
		}
		s.thread.part[0] = s.thread.scratch[0][:k]
		s.Deliver(s.thread.part)
	}
}

// secondBroke is what the reset of a second program leads to.
func (s *stream) secondBroke(err error) {
	if second, ok := s.far.(*program); ok {
		second.Reset("")
	}
	s.Lost(&policy.Refusal{Reason: policy.ReasonReset, Detail: err.Error()})
}

// joinSecond begins to carry between two programs of this node.
func (s *stream) joinSecond(second *program) {
	second.moved = s.schedule
	if err := second.watch(); err != nil {
		second.Reset("")
		s.fail(policy.ReasonLimit)
		return
	}
	s.join(second)
}

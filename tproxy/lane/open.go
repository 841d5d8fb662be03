// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"context"
	"math"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/lane/frame"
	"tacit/tproxy/lane/message"
)

// Open opens a stream to a service of a peer, and proves the source to it. If the
// destination is proven on the lane already, it returns at once, and the first bytes
// of the user go along; otherwise it returns when it is proven. Every error is a
// *policy.Refusal, and then the user isn't called.
func (s *Set) Open(ctx context.Context, on *Loop, to Peer, o message.Opening, u User) (*Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	l, err := s.take(ctx, on, to)
	if err != nil {
		return nil, err
	}
	return l.open(ctx, o, u)
}

func (l *lane) open(ctx context.Context, o message.Opening, u User) (*Stream, error) {
	proven, soon := l.proven(o.Destination, time.Now())
	o.Unproven = !proven || soon
	st := newStream(l, o.Source, o.Destination)
	st.user = u
	var answer chan error
	if !proven {
		answer = make(chan error, 1)
		st.answer = answer
	}
	if err := l.queueOpening(st, o); err != nil {
		l.release()
		return nil, err
	}
	if proven {
		return st, nil
	}
	select {
	case err := <-answer:
		return st, err
	case <-ctx.Done():
		return st, l.giveUp(st, answer)
	}
}

// queueOpening proves the source, where the peer doesn't know it yet, and opens the
// stream. Both are queued in the order in which services are proven.
func (l *lane) queueOpening(st *Stream, o message.Opening) error {
	l.proving.Lock()
	defer l.proving.Unlock()
	proof, err := l.service(identity.RoleClient, o.Source)
	if err != nil {
		return err
	}
	payload := o.Encode()
	if !l.loop.Do(func() { l.begin(st, proof, payload) }) {
		return policy.Refuse(policy.ReasonDrain, "%v", errClosed)
	}
	return nil
}

// begin opens a stream, on the loop.
func (l *lane) begin(st *Stream, proof, opening []byte) {
	if proof != nil { // in any case: it counts as shown
		l.send(frame.Prove, 0, proof)
	}
	if err := l.passed(st); err != nil {
		st.over, st.lost = true, err
		l.release()
		if !st.reply(err) {
			st.user.Lost(err)
		}
		return
	}
	l.last++
	st.id = l.last
	l.streams[st.id] = st
	l.total.Add(1)
	l.send(frame.Open, st.id, opening)
	if time.Since(l.heard) > UpkeepPeriod {
		l.ask()
	}
	if st.answer == nil {
		st.open()
	}
}

// passed is why a stream can't begin, though it could when it was asked for.
func (l *lane) passed(st *Stream) *policy.Refusal {
	l.mu.Lock()
	retiring := l.retiring
	l.mu.Unlock()
	switch ok, _ := l.proven(st.there, time.Now()); {
	case l.ending || l.finishing || retiring || l.last == math.MaxUint32:
		return &policy.Refusal{Reason: policy.ReasonLane, Detail: "the lane has ended"}
	case st.answer == nil && !ok:
		return l.unproven(st.there)
	}
	return nil
}

// giveUp ends a stream that wasn't answered in time, unless the answer has just come.
func (l *lane) giveUp(st *Stream, answer <-chan error) error {
	l.loop.Do(func() {
		if st.answer != nil {
			st.Reset(policy.ReasonLane)
			st.reply(policy.Refuse(policy.ReasonLane, "no answer to OPEN"))
		}
	})
	return <-answer
}

// answered is told that the peer has proven the destination, so that the stream may
// go on, or hasn't: then it is refused.
func (s *Stream) answered() {
	if s.opened || s.over {
		return
	}
	if ok, _ := s.lane.proven(s.there, time.Now()); ok {
		s.open()
		return
	}
	why := s.lane.unproven(s.there)
	s.lane.send(frame.Reset, s.id, []byte(why.Reason))
	s.lose(why)
}

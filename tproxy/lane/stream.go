// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"fmt"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/lane/credit"
	"tacit/tproxy/lane/frame"
	"tacit/tproxy/lane/message"
)

// Stream is one end of a stream on a lane. All methods are called on the lane's loop.
//
//	        FIN sent ┌────────────┐ FIN came
//	      ┌──────────┤    open    ├──────────┐
//	      ▼          └─────┬──────┘          ▼
//	half-closed here       │        half-closed there
//	      │ FIN came       │ RESET           │ FIN sent
//	      └───────────►   over  ◄────────────┘
//
// RESET, sent or received, and the end of the lane lead to over from everywhere. What
// the peer sent before it knew of a RESET is skipped: numbers aren't used twice.
type Stream struct {
	lane        *lane
	id          uint32
	user        User
	here, there identity.Name // services of this node and of the peer
	credit      int           // bytes that may be sent yet
	window      credit.Window

	opened  bool // the user was told
	sentFin bool
	gotFin  bool
	over    bool
	wanting bool            // the user waits for Room
	waiting bool            // in lane.waiting
	touched bool            // in lane.touched
	batch   [][]byte        // arrived in the present read
	early   []byte          // arrived before there was a user
	lost    *policy.Refusal // why it is over, for a user that comes later
	answer  chan<- error    // to the opener that waits for the peer's proof
}

func newStream(l *lane, here, there identity.Name) *Stream {
	return &Stream{lane: l, here: here, there: there, credit: credit.First, window: credit.NewWindow()}
}

// Areas returns where bytes may be put that Commit then sends: at most what the peer
// has granted, and more than one record if wide. None: there is no room now, and
// User.Room will be called.
func (s *Stream) Areas(wide bool) [][]byte {
	if s.over || s.sentFin {
		return nil
	}
	if s.credit > 0 {
		if areas := s.lane.areas(s.credit, wide); len(areas) > 0 {
			return areas
		}
		s.lane.wait(s)
	}
	s.wanting = true
	return nil
}

// Commit sends the first n bytes of the last Areas; it is called after each Areas that
// gave room.
func (s *Stream) Commit(n int) {
	s.credit -= n
	s.lane.out.Commit(s.id, n)
	if n > 0 {
		s.lane.moved.Add(int64(n))
		s.lane.queue()
	}
}

// Fin ends this direction.
func (s *Stream) Fin() {
	if s.over || s.sentFin {
		return
	}
	s.sentFin = true
	s.lane.send(frame.Fin, s.id, nil)
	if s.gotFin {
		s.end()
	}
}

// Reset ends the stream; the user hears no more of it.
func (s *Stream) Reset(r policy.Reason) {
	if !s.over {
		s.lane.send(frame.Reset, s.id, []byte(r))
		s.end()
	}
}

// Took says that the program has taken n bytes that were delivered.
func (s *Stream) Took(n int) {
	if s.over {
		return
	}
	s.window.Release(n, &s.lane.guest.Held)
	if s.gotFin {
		return
	}
	if grant := s.window.Took(n, s.lane.guest.Windows); grant > 0 {
		s.lane.send(frame.Credit, s.id, frame.Granting(grant))
	}
}

// end takes the stream off its lane.
func (s *Stream) end() {
	s.over, s.early = true, nil
	s.window.Close(s.lane.guest.Windows, &s.lane.guest.Held)
	s.lane.remove(s)
}

// lose ends the stream for its user.
func (s *Stream) lose(why *policy.Refusal) {
	if s.over {
		return
	}
	s.end()
	s.lost = why
	if !s.reply(why) && s.opened {
		s.user.Lost(why)
	}
}

// reply tells the opener that waits; false: none does.
func (s *Stream) reply(err error) bool {
	if s.answer == nil {
		return false
	}
	s.answer <- err
	s.answer = nil
	return true
}

// open tells the user.
func (s *Stream) open() {
	if s.over || s.opened {
		return
	}
	s.opened = true
	s.reply(nil)
	s.user.Opened(s)
}

// handle takes one frame of the stream.
func (s *Stream) handle(h frame.Header, payload []byte) {
	switch h.Kind {
	case frame.Data:
		s.data(payload)
	case frame.Fin:
		s.fin()
	case frame.Reset:
		if !s.opened && !s.lane.dialled {
			s.lane.strike("streams reset before they were taken")
		}
		s.deliver()
		why := message.Reason(payload)
		if why == policy.ReasonProof { // the peer's bundle may have been older than the proof
			s.lane.services.Forget(s.here)
		}
		s.lose(&policy.Refusal{Reason: why, Detail: "the other node said so"})
	case frame.Answer:
		s.answered()
	case frame.Credit:
		s.granted(frame.Amount(payload))
	}
}

func (s *Stream) data(payload []byte) {
	switch {
	case s.gotFin || s.unproven():
		s.lane.breach(fmt.Sprintf("DATA of stream %d after FIN, or before its proof", s.id))
	case !s.window.Arrived(len(payload)):
		s.lane.breach(fmt.Sprintf("stream %d: more bytes than were granted", s.id))
	case !s.window.Keep(len(payload), &s.lane.guest.Held):
		s.lane.send(frame.Reset, s.id, []byte(policy.ReasonLimit))
		s.lose(&policy.Refusal{Reason: policy.ReasonLimit, Detail: "the streams of this peer make the node hold too much"})
	case !s.opened:
		s.early = append(s.early, payload...)
	default:
		s.batch = append(s.batch, payload)
		s.lane.touch(s)
	}
}

func (s *Stream) fin() {
	if s.gotFin || s.unproven() {
		s.lane.breach(fmt.Sprintf("FIN of stream %d twice, or before its proof", s.id))
		return
	}
	s.gotFin = true
	s.deliver()
	if s.opened && !s.over {
		s.user.End()
	}
	if s.sentFin && !s.over {
		s.end()
	}
}

// unproven says that the peer hasn't proven the destination, and must send nothing.
func (s *Stream) unproven() bool { return s.lane.dialled && !s.opened }

// grantLimit is more than any sender uses: more is a fault of the peer.
const grantLimit = 1 << 30

func (s *Stream) granted(n int) {
	if s.credit += n; n == 0 || s.credit > grantLimit {
		s.lane.breach(fmt.Sprintf("stream %d: %d bytes granted, %d in all", s.id, n, s.credit))
		return
	}
	s.room()
}

// room tells a user that waits.
func (s *Stream) room() {
	if s.wanting && s.opened && !s.over {
		s.wanting = false
		s.user.Room()
	}
}

// deliver hands over what arrived in the present read.
func (s *Stream) deliver() {
	parts := s.batch
	s.batch = s.batch[:0]
	if len(parts) > 0 && !s.over {
		s.user.Deliver(parts)
	}
	clear(parts) // an idle stream holds little
	if len(parts) > 4 {
		s.batch = nil
	}
}

// attach gives an arrived stream its user.
func (s *Stream) attach(u User) {
	s.lane.guest.Decided()
	if s.over {
		u.Lost(s.lost)
		return
	}
	s.user, s.opened = u, true
	u.Opened(s)
	if early := s.early; len(early) > 0 && !s.over {
		s.early = nil
		u.Deliver([][]byte{early})
	}
	if s.gotFin && !s.over {
		u.End()
	}
}

// areas is where bytes of a stream may be put; none while the output is blocked and
// full.
func (l *lane) areas(limit int, wide bool) [][]byte {
	if l.ending || l.finishing {
		return nil
	}
	areas := l.out.Areas(limit, wide)
	if len(areas) == 0 && !l.blocked {
		l.Flush()
		if !l.ending {
			areas = l.out.Areas(limit, wide)
		}
	}
	return areas
}

// wait has a stream offered room once there is some.
func (l *lane) wait(s *Stream) {
	if !s.waiting && !l.ending {
		s.waiting = true
		l.waiting = append(l.waiting, s)
	}
}

// offer gives the streams that wait their turn, in order.
func (l *lane) offer() {
	waiting := l.waiting
	l.waiting, l.offering = nil, false
	for _, s := range waiting {
		s.waiting = false
		s.room()
	}
}

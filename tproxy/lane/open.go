// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"errors"
	"time"

	"tacit/identity"
)

// request is a stream to be opened, and the client's first bytes. They are kept
// here, so that a second attempt can send them as well.
type request struct {
	deadline time.Time // for the answer
	Opening
	firstBytes func(into []byte) int
	first      *Block
	n          int
}

// open opens a stream. If the destination is proven on this lane, the client's
// first bytes go along and no answer is awaited; else they wait for the proof.
func (l *lane) open(q *request) (*End, error) {
	proven, soon := l.proven(q.Destination, time.Now())
	q.prove = !proven || soon
	frames, err := l.service(identity.RoleClient, q.Source, false)
	if err != nil {
		return nil, err
	}
	l.occupy(q.Source, q.Destination)
	l.last++
	c := &End{l: l, id: l.last}
	frames = appendFrame(frames, kindOpen, c.id, q.encode())
	if proven {
		frames = appendData(frames, c.id, q)
	}
	if err := l.send(frames); err != nil {
		return nil, err
	}
	if proven {
		return c, nil
	}
	return c, l.await(c, q)
}

// appendData appends the client's first bytes, if there are any yet and they fit
// into the same record.
func appendData(frames []byte, id uint32, q *request) []byte {
	if room := recordSize - len(frames) - headerSize; q.n == 0 && room > 0 {
		q.n = q.firstBytes(q.first.Payload()[:min(room, payloadSize)])
	}
	if q.n == 0 {
		return frames
	}
	return appendFrame(frames, kindData, id, q.first.Payload()[:q.n])
}

// await waits for the destination's proof. Until it is verified, none of the
// client's bytes is sent, and none of the destination's is accepted.
func (l *lane) await(c *End, q *request) error {
	if err := l.conn.SetReadDeadline(q.deadline); err != nil {
		return l.fault(err)
	}
	c.timed = true
	for {
		err := l.answer(c, q.Destination)
		if errors.Is(err, ErrWoken) {
			return l.fault(errors.New("no answer to OPEN"))
		}
		if err != nil {
			return err
		}
		if ok, _ := l.proven(q.Destination, time.Now()); ok {
			break
		}
	}
	_ = l.conn.SetReadDeadline(time.Time{})
	if q.n == 0 {
		return nil
	}
	return l.send(appendFrame(nil, kindData, c.id, q.first.Payload()[:q.n]))
}

// answer handles one frame while the proof of want is awaited.
func (l *lane) answer(c *End, want identity.Name) error {
	h, b, err := l.readFrame()
	if err != nil {
		return err
	}
	defer l.blocks.Put(b)
	switch {
	case h.kind == kindProve:
		id, err := l.learn(b.Payload()[:h.length])
		if late := id.IsService() && id.Name() == l.was; err != nil || id == l.peer || late && l.was != want {
			return err // late: the service of the stream before, proven anew
		}
		if id.Name() != want || l.of(want).bad != nil {
			return l.unproven(want)
		}
		return nil
	case h.stream < c.id:
		return nil
	case h.stream == c.id && h.kind == kindReset:
		_, err := c.received(h, b.Payload()[:h.length])
		return err
	}
	return l.breach("%s before the proof of %s", h.kind, want)
}

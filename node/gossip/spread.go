// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"crypto/rand"
	mrand "math/rand/v2"
	"sync"
	"time"

	"tacit/identity"
	"tacit/node/gossip/wire"
)

/*
A payload that fits in a packet travels in a frame: one byte of version, a random ID
of 16 bytes, then the payload. The sender sends the frame to up to directTargets
members at once, and in small meshes again later, since packets get lost; receivers
drop frames that they have seen. Longer payloads travel in a stream to each target.
Nobody relays what it hasn't checked: the delegate broadcasts again what was new to it.
*/

const (
	frameVersion  = 1
	frameHeader   = 1 + 16
	packetSize    = 1400 // below the MTU of common tunnels
	directTargets = 64
	smallMesh     = 8 // members; frames are repeated there
	repeats       = 3
	repeatAfter   = 500 * time.Millisecond
	seenFrames    = 8192
	streamSenders = 8
)

type frameID [16]byte

// spread sends payloads to the other members.
type spread struct {
	table    *table
	seen     *seen
	packet   int // the longest frame that fits in a packet
	outgoing chan outgoing
	later    chan outgoing // to be repeated
	streams  chan stream
}

// outgoing is a frame, or a long payload as it is.
type outgoing struct {
	text  []byte
	frame bool
	left  int       // repetitions
	due   time.Time // of the next one
}

type stream struct {
	payload []byte
	to      Member
}

func newSpread(t *table, self identity.Name) *spread {
	return &spread{table: t, seen: newSeen(), packet: packetSize - wire.Overhead(self),
		outgoing: make(chan outgoing, 256), later: make(chan outgoing, 1024), streams: make(chan stream, 1024)}
}

// start runs the senders until the pool closes.
func (s *spread) start(p *Pool) {
	p.wait.Go(func() { s.dispatch(p) })
	p.wait.Go(func() { s.repeat(p) })
	for range streamSenders {
		p.wait.Go(func() { s.send(p) })
	}
}

// Broadcast sends payload to live members. It doesn't wait, and delivery isn't
// guaranteed: lost payloads arrive with the next exchange.
func (p *Pool) Broadcast(payload []byte) {
	if len(payload) > maxPayload {
		p.log.Warn("gossip payload too long to broadcast; an exchange will carry it", "bytes", len(payload), "limit", maxPayload)
		return
	}
	out := outgoing{text: payload}
	if frameHeader+len(payload) <= p.spread.packet {
		out = p.spread.frame(payload)
	}
	select {
	case p.spread.outgoing <- out:
	default:
		p.log.Warn("gossip queue full: payload not broadcast; an exchange will carry it", "bytes", len(payload))
	}
}

func (s *spread) frame(payload []byte) outgoing {
	frame := make([]byte, frameHeader, frameHeader+len(payload))
	frame[0] = frameVersion
	_, _ = rand.Read(frame[1:frameHeader]) // never fails (crypto/rand)
	out := outgoing{text: append(frame, payload...), frame: true, due: time.Now()}
	if s.table.alive() <= smallMesh {
		out.left = repeats
	}
	return out
}

// receive unpacks a frame; fresh means that the sender hasn't sent it before.
func (s *spread) receive(from identity.Name, frame []byte) (payload []byte, fresh bool) {
	if len(frame) < frameHeader || frame[0] != frameVersion || !s.seen.add(from, frameID(frame[1:frameHeader])) {
		return nil, false
	}
	return frame[frameHeader:], true
}

// dispatch sends packets itself and queues streams for the senders.
func (s *spread) dispatch(p *Pool) {
	for {
		select {
		case out := <-s.outgoing:
			s.direct(p, out)
		case <-p.ctx.Done():
			return
		}
	}
}

// repeat sends frames again, each repeatAfter the last time.
func (s *spread) repeat(p *Pool) {
	for {
		select {
		case out := <-s.later:
			select {
			case <-time.After(time.Until(out.due)):
				s.direct(p, out)
			case <-p.ctx.Done():
				return
			}
		case <-p.ctx.Done():
			return
		}
	}
}

func (s *spread) direct(p *Pool, out outgoing) {
	targets := s.table.others(p.cfg.Name, true)
	mrand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	for _, m := range targets[:min(len(targets), directTargets)] {
		if out.frame {
			if err := p.wire.Send(m.Name, m.Addr, kindPayload, out.text); err != nil {
				p.log.Debug("gossip packet not sent", "node", m.Name, "err", err)
			}
			continue
		}
		select {
		case s.streams <- stream{out.text, m}:
		default:
			p.log.Debug("gossip stream not sent: queue full", "node", m.Name)
		}
	}
	if out.left > 0 {
		out.left, out.due = out.left-1, time.Now().Add(repeatAfter)
		select {
		case s.later <- out:
		default: // an exchange will carry it
		}
	}
}

// send sends long payloads, one stream at a time.
func (s *spread) send(p *Pool) {
	for {
		select {
		case st := <-s.streams:
			if err := p.sendPayload(st.to, st.payload); err != nil {
				p.log.Debug("gossip stream failed", "node", st.to.Name, "err", err)
			}
		case <-p.ctx.Done():
			return
		}
	}
}

// seen remembers the last seenFrames frames. An ID counts for its sender alone:
// otherwise one member could have others drop what another has sent.
type seen struct {
	mu   sync.Mutex
	ids  map[frameOf]struct{}
	ring []frameOf
	next int
}

type frameOf struct {
	from identity.Name
	id   frameID
}

func newSeen() *seen {
	return &seen{ids: make(map[frameOf]struct{}), ring: make([]frameOf, 0, seenFrames)}
}

// add reports whether a frame is new.
func (s *seen) add(from identity.Name, id frameID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := frameOf{from, id}
	if _, ok := s.ids[f]; ok {
		return false
	}
	s.ids[f] = struct{}{}
	if len(s.ring) < seenFrames {
		s.ring = append(s.ring, f)
		return true
	}
	delete(s.ids, s.ring[s.next])
	s.ring[s.next] = f
	s.next = (s.next + 1) % seenFrames
	return true
}

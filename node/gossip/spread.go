// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"crypto/rand"
	mrand "math/rand/v2"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

/*
A payload travels in a frame: one byte of version, a random ID of 16 bytes, then
the payload. The sender sends the frame to up to directTargets members at once, in
a packet if it fits, else over a stream. A small frame also enters the queue that
is piggybacked on gossip, at the sender and at every member that receives it for
the first time: this covers packet loss and large meshes. In a mesh with more
members than directTargets, every receiver relays a large frame to relayTargets
members. Frames seen before are dropped.
*/

const (
	frameVersion  = 1
	frameHeader   = 1 + 16
	packetSize    = 1400 // of memberlist, below the MTU of common tunnels
	maxPayload    = 16 << 20
	directTargets = 64
	relayTargets  = 3
	seenFrames    = 8192
	maxQueued     = 1024
	streamSenders = 8
)

type frameID [16]byte

// spread sends payloads to the other members.
type spread struct {
	table    *table
	queue    *memberlist.TransmitLimitedQueue
	seen     *seen
	packet   int // the largest frame that fits in a packet
	outgoing chan outgoing
	streams  chan stream
	relaying func() bool // whether large frames must be relayed
}

type outgoing struct {
	frame   []byte
	targets int
}

type stream struct {
	frame []byte
	to    Member
}

func newSpread(t *table, label string) *spread {
	s := &spread{table: t, seen: newSeen(), outgoing: make(chan outgoing, 256), streams: make(chan stream, 1024)}
	s.queue = &memberlist.TransmitLimitedQueue{NumNodes: t.alive, RetransmitMult: 4}
	// label 2+n, encryption 29, compound 4, checksum 5, type 1, and a margin
	s.packet = packetSize - 64 - len(label)
	s.relaying = func() bool { return t.alive() > directTargets+1 }
	return s
}

// start runs the senders until the pool closes.
func (s *spread) start(p *Pool) {
	p.wait.Go(func() { s.dispatch(p) })
	for range streamSenders {
		p.wait.Go(func() { s.send(p) })
	}
}

// Broadcast sends payload to every live member. It doesn't wait, and delivery isn't
// guaranteed: lost payloads arrive with the next push/pull.
func (p *Pool) Broadcast(payload []byte) {
	if len(payload) > maxPayload {
		p.log.Warn("gossip payload too large to broadcast; push/pull will carry it", "bytes", len(payload), "limit", maxPayload)
		return
	}
	frame := make([]byte, frameHeader, frameHeader+len(payload))
	frame[0] = frameVersion
	_, _ = rand.Read(frame[1:frameHeader]) // never fails (crypto/rand)
	p.spread.seen.add(frameID(frame[1:frameHeader]))
	if !p.spread.pass(append(frame, payload...), directTargets) {
		p.log.Warn("gossip queue full: payload not broadcast; push/pull will carry it", "bytes", len(payload))
	}
}

// pass queues a frame; false means that it won't be sent.
func (s *spread) pass(frame []byte, targets int) bool {
	small := len(frame) <= s.packet
	if small {
		s.queue.QueueBroadcast(queued(frame))
		if s.queue.NumQueued() > maxQueued {
			s.queue.Prune(maxQueued)
		}
	}
	if targets == 0 {
		return true
	}
	select {
	case s.outgoing <- outgoing{frame, targets}:
		return true
	default:
		return small
	}
}

// receive unpacks a frame from the network and relays it if it is new. The payload
// is a copy.
func (s *spread) receive(frame []byte) (payload []byte, fresh bool) {
	if len(frame) < frameHeader || frame[0] != frameVersion || !s.seen.add(frameID(frame[1:frameHeader])) {
		return nil, false
	}
	frame = slices.Clone(frame)
	targets := 0
	if len(frame) > s.packet && s.relaying() {
		targets = relayTargets
	}
	s.pass(frame, targets)
	return slices.Clone(frame[frameHeader:]), true
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

func (s *spread) direct(p *Pool, out outgoing) {
	targets := s.table.others(p.cfg.Name, true)
	mrand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	for _, m := range targets[:min(len(targets), out.targets)] {
		if len(out.frame) <= s.packet {
			if err := p.list.SendBestEffort(m.node(), out.frame); err != nil {
				p.log.Debug("gossip packet not sent", "node", m.Name, "error", err)
			}
			continue
		}
		select {
		case s.streams <- stream{out.frame, m}:
		default:
			p.log.Debug("gossip stream not sent: queue full", "node", m.Name)
		}
	}
}

// send sends large frames, one stream at a time.
func (s *spread) send(p *Pool) {
	for {
		select {
		case st := <-s.streams:
			if err := p.list.SendReliable(st.to.node(), st.frame); err != nil {
				p.log.Debug("gossip stream failed", "node", st.to.Name, "error", err)
			}
		case <-p.ctx.Done():
			return
		}
	}
}

// queued is a frame in memberlist's queue; no frame replaces another.
type queued []byte

var _ memberlist.UniqueBroadcast = queued(nil)

// Invalidates is never called for a unique broadcast.
func (q queued) Invalidates(memberlist.Broadcast) bool { return false }

// Message returns the frame.
func (q queued) Message() []byte { return q }

// Finished does nothing.
func (q queued) Finished() {}

// UniqueBroadcast marks the type.
func (q queued) UniqueBroadcast() {}

// seen remembers the IDs of the last seenFrames frames.
type seen struct {
	mu   sync.Mutex
	ids  map[frameID]struct{}
	ring []frameID
	next int
}

func newSeen() *seen {
	return &seen{ids: make(map[frameID]struct{}), ring: make([]frameID, 0, seenFrames)}
}

// add reports whether id is new.
func (s *seen) add(id frameID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.ids[id]; ok {
		return false
	}
	s.ids[id] = struct{}{}
	if len(s.ring) < seenFrames {
		s.ring = append(s.ring, id)
		return true
	}
	delete(s.ids, s.ring[s.next])
	s.ring[s.next] = id
	s.next = (s.next + 1) % seenFrames
	return true
}

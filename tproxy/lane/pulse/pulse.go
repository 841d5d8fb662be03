// SPDX-License-Identifier: Apache-2.0

// Package pulse finds out whether a peer lives and takes what it is sent. It counts
// rounds: it must not look at a clock or a connection.
//
// A peer's kernel acknowledges bytes for a daemon that is stopped, so acknowledgements
// show nothing: a quiet peer is asked for a PONG. Time is counted in rounds that this
// node was there for: if it was stopped itself, its peers aren't to blame. On a slow
// link the PING waits behind much else: rounds count once it has arrived, or when
// nothing arrives.
package pulse

import "time"

const (
	// Round is the time between two calls of Pulse.Round.
	Round = 250 * time.Millisecond

	pongRounds = 3  // without an answer to PING
	jamRounds  = 16 // in which a peer takes nothing of what it is sent: every node reads its lanes always
)

// Pulse is of one lane.
type Pulse struct {
	written uint64 // bytes that this node's kernel was given
	acked   uint64 // those of them that the peer's has acknowledged, at the last round
	asked   uint64 // where the last PING ends
	quiet   int    // rounds since a PING that nothing has answered; 0: none is under way
	jammed  int    // rounds in which output waited and the peer's kernel took nothing
}

// Wrote says that the kernel took n bytes.
func (p *Pulse) Wrote(n int) { p.written += uint64(n) }

// Heard says that something came from the peer.
func (p *Pulse) Heard() { p.quiet = 0 }

// Ask says whether a PING is to be sent: unless one is under way. pending bytes, and a
// record for the PING, are to be written before it has left.
func (p *Pulse) Ask(pending int) bool {
	if p.quiet > 0 {
		return false
	}
	p.quiet, p.asked = 1, p.written+uint64(pending)
	return true
}

// Round counts one round. unacked: bytes that the peer's kernel hasn't acknowledged;
// blocked: output waits; unread: what has come may not have been read, so that the peer
// isn't to blame. stuck: it takes nothing; silent: it doesn't answer.
func (p *Pulse) Round(unacked int, blocked, unread bool) (stuck, silent bool) {
	acked := p.written - uint64(unacked)
	moves := acked != p.acked
	p.acked = acked
	if p.jammed++; !blocked || moves {
		p.jammed = 0
	}
	if p.quiet > 0 && !unread && (acked >= p.asked || !moves) {
		p.quiet++
	}
	return p.jammed > jamRounds, p.quiet > pongRounds
}

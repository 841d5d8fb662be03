// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"sync"

	"tacit/identity"
)

const (
	inboxLength = 1024
	inboxShare  = 128 // of one sender
)

// inbox queues the payloads of packets until the delegate has merged them, so that a
// slow merge never blocks the receive loop.
type inbox struct {
	queue chan letter

	mu sync.Mutex
	by map[identity.Name]int // queued, by sender
}

type letter struct {
	from    identity.Name
	payload []byte
}

func newInbox() *inbox {
	return &inbox{queue: make(chan letter, inboxLength), by: map[identity.Name]int{}}
}

// put queues payload and keeps the slice; false means that there is no room for one
// more of this sender.
func (b *inbox) put(from identity.Name, payload []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.by[from] >= inboxShare {
		return false
	}
	select {
	case b.queue <- letter{from, payload}:
		b.by[from]++
		return true
	default:
		return false
	}
}

func (b *inbox) took(from identity.Name) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.by[from]--; b.by[from] <= 0 {
		delete(b.by, from)
	}
}

// deliver has the delegate merge the queued payloads, one at a time.
func (p *Pool) deliver() {
	for {
		select {
		case l := <-p.inbox.queue:
			p.inbox.took(l.from)
			p.merge(l.from, l.payload)
		case <-p.ctx.Done():
			return
		}
	}
}

// merge hands on what a member has sent, unless it was cut off or revoked meanwhile.
func (p *Pool) merge(from identity.Name, payload []byte) {
	if _, member := p.cfg.Peer(from); !member || p.wire.IsCut(from) {
		return
	}
	p.wire.Forged(from, p.cfg.Delegate.Merge(from, payload))
}

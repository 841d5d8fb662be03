// SPDX-License-Identifier: Apache-2.0

package gossip

import "sync/atomic"

const (
	inboxLength = 1024
	inboxBytes  = 64 << 20 // three push/pulls of the largest size in memberlist
)

// inbox queues payloads until the delegate has merged them, so that a slow merge
// never blocks the receive loop.
type inbox struct {
	queue chan []byte
	bytes atomic.Int64
}

func newInbox() *inbox {
	return &inbox{queue: make(chan []byte, inboxLength)}
}

// put queues payload and keeps the slice; false means that the inbox is full.
func (b *inbox) put(payload []byte) bool {
	n := int64(len(payload))
	if b.bytes.Add(n) > inboxBytes {
		b.bytes.Add(-n)
		return false
	}
	select {
	case b.queue <- payload:
		return true
	default:
		b.bytes.Add(-n)
		return false
	}
}

// deliver has the delegate merge the queued payloads, one at a time.
func (p *Pool) deliver() {
	for {
		select {
		case payload := <-p.inbox.queue:
			p.inbox.bytes.Add(-int64(len(payload)))
			p.cfg.Delegate.Merge(payload)
		case <-p.ctx.Done():
			return
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package gossip

import "sync/atomic"

const (
	inboxLength = 1024
	inboxBytes  = 64 << 20 // three push/pulls of memberlist's largest size
)

// inbox holds payloads until the owner has merged them, so that a slow merge
// never holds up the receive loop.
type inbox struct {
	queue chan []byte
	bytes atomic.Int64
}

func newInbox() *inbox {
	return &inbox{queue: make(chan []byte, inboxLength)}
}

// put takes payload, which must be the inbox's own copy; false means full.
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

// deliver merges what the inbox holds, one payload at a time.
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

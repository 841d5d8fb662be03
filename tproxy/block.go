// SPDX-License-Identifier: Apache-2.0

package tproxy

import "sync"

const (
	recordSize  = 16384 // the most plaintext in a TLS record (RFC 8446, 5.1)
	headerSize  = 8
	payloadSize = recordSize - headerSize
)

// block holds one frame: room for the header, then the payload, so that both
// leave in one write.
type block [recordSize]byte

func (b *block) payload() []byte { return b[headerSize:] }

// blocks recycles blocks. A stream holds one only while it passes bytes on, so
// an idle connection holds none.
type blocks struct{ pool sync.Pool }

func (p *blocks) get() *block {
	if b, ok := p.pool.Get().(*block); ok {
		return b
	}
	return new(block)
}

func (p *blocks) put(b *block) {
	if b != nil {
		p.pool.Put(b)
	}
}

// SPDX-License-Identifier: Apache-2.0

package lane

import "sync"

const (
	recordSize  = 16384 // the most plaintext in a TLS record (RFC 8446, 5.1)
	headerSize  = 8
	payloadSize = recordSize - headerSize
)

// Block holds one frame: room for the header, then the payload, so that both
// leave in one write.
type Block [recordSize]byte

// Payload is what follows the header.
func (b *Block) Payload() []byte { return b[headerSize:] }

// Blocks recycles blocks. A stream holds one only while it passes bytes on, so
// an idle connection holds none. The zero value is ready for use.
type Blocks struct{ pool sync.Pool }

// Get returns a block with undefined content.
func (p *Blocks) Get() *Block {
	if b, ok := p.pool.Get().(*Block); ok {
		return b
	}
	return new(Block)
}

// Put takes a block back; nil is allowed.
func (p *Blocks) Put(b *Block) {
	if b != nil {
		p.pool.Put(b)
	}
}

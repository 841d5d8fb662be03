// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"tacit/policy"
	"tacit/tproxy/lane"
)

// endpoint is one end of a stream: a program's socket on this node (programEnd)
// or the stream on a lane (lane.End). One goroutine reads, another writes; Wake,
// Interrupt and Reset may be called from any goroutine.
type endpoint interface {
	// Read returns a block whose payload holds n bytes; the caller returns it
	// to the pool. io.EOF stands for FIN and comes once: a further read waits
	// for a reset, or for Wake (lane.ErrWoken).
	Read() (b *lane.Block, n int, err error)
	// Write sends the first n bytes of b's payload; b stays the caller's.
	Write(b *lane.Block, n int) error
	CloseWrite() error
	// Wake ends a read that waits, with lane.ErrWoken.
	Wake()
	// Interrupt makes every read and write, current or later, end within
	// lane.ResetTimeout. It doesn't block.
	Interrupt()
	// Reset tells the program behind this endpoint that the connection was
	// reset. Calls after the first do nothing.
	Reset(policy.Reason)
	// Dead says whether the connection behind this endpoint has ended, without
	// reading from it.
	Dead() bool
	// Close releases the endpoint. Both goroutines must have ended.
	Close()
}

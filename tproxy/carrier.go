// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"

	"tacit/policy"
)

// endpoint is one end of a stream: a program's socket on this node (programEnd)
// or the stream on a lane (laneEnd). One goroutine reads, another writes; wake,
// interrupt and reset may be called from any goroutine.
type endpoint interface {
	// read returns a block whose payload holds n bytes; the caller returns it
	// to the pool. io.EOF stands for FIN and comes once: a further read waits
	// for a reset, or for wake (errWoken).
	read() (b *block, n int, err error)
	// write sends the first n bytes of b's payload; b stays the caller's.
	write(b *block, n int) error
	closeWrite() error
	// wake ends a read that waits, with errWoken.
	wake()
	// interrupt makes every read and write, current or later, end within
	// resetTimeout. It doesn't block.
	interrupt()
	// reset tells the program behind this endpoint that the connection was
	// reset. Calls after the first do nothing.
	reset(policy.Reason)
	// dead says whether the connection behind this endpoint has ended, without
	// reading from it.
	dead() bool
	// close releases the endpoint. Both goroutines must have ended.
	close()
}

// carrier opens streams to other nodes. Captured connections know no more than
// this of lanes, so that lanes could carry many streams each without a change
// elsewhere. firstBytes reads what the client has sent so far, which may travel
// with the opening.
type carrier interface {
	carry(ctx context.Context, t Target, o opening, firstBytes func(into []byte) int) (endpoint, error)
}

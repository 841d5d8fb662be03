// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"

	"tacit/policy"
)

// endpoint is one end of a stream as the copying sees it: a program's socket here,
// or the stream's place on a lane. One goroutine reads, another writes; wake,
// interrupt and reset may be called from any.
type endpoint interface {
	// read returns a block whose payload holds n bytes; the caller gives it
	// back. io.EOF stands for FIN and comes once: a further read waits for a
	// reset, or for wake (errWoken).
	read() (b *block, n int, err error)
	// write sends the first n bytes of b's payload; b stays the caller's.
	write(b *block, n int) error
	closeWrite() error
	// wake ends a read that only waits.
	wake()
	// interrupt makes whatever blocks, now or later, end within resetTimeout, and
	// doesn't block itself.
	interrupt()
	// reset tells the program behind this endpoint that the connection broke.
	// Calls after the first do nothing.
	reset(policy.Reason)
	// dead says whether the connection behind this endpoint is gone although
	// nobody reads from it.
	dead() bool
	// close lets go, after both goroutines have ended.
	close()
}

// carrier opens streams to other nodes. It is all that the proxy knows of
// lanes for connections captured here, so that lanes may come to carry many
// streams without anything else changing. early are bytes of the client's that
// may travel with the opening.
type carrier interface {
	carry(ctx context.Context, t Target, o opening, early func(into []byte) int) (endpoint, error)
}

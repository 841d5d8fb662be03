// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"

	"tacit/policy"
)

// side is one end of a stream as the copying sees it: a program's socket here,
// or the stream's place on a lane. One goroutine reads, another writes; nudge,
// hurry and reset may be called from any.
type side interface {
	// read returns a block whose payload holds n bytes; the caller gives it
	// back. io.EOF stands for FIN and comes once: a further read waits for a
	// reset, or for a nudge (errNudged).
	read() (b *block, n int, err error)
	// write sends the first n bytes of b's payload; b stays the caller's.
	write(b *block, n int) error
	closeWrite() error
	// nudge ends a read that only waits.
	nudge()
	// hurry makes whatever blocks, now or later, end within resetTimeout, and
	// doesn't block itself.
	hurry()
	// reset tells the program behind this side that the connection broke.
	// Calls after the first do nothing.
	reset(policy.Reason)
	// dead says whether the connection behind this side is gone although
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
	carry(ctx context.Context, t Target, o opening, early func(into []byte) int) (side, error)
}

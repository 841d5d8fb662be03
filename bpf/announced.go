// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"fmt"
	"time"

	"tacit/bpf/ring"
)

// settleTime is how long after its announcement a listener has surely begun or
// ended: the hooks run just before, in the same system call.
const settleTime = 20 * time.Millisecond

// Listening calls f when a program has begun or ceased to listen on a guarded port,
// until ctx ends: at once, where the change may not be complete yet, and again
// settleTime later. There may be one reader at a time.
func (o *Objects) Listening(ctx context.Context, f func()) error {
	if err := ring.Settled(ctx, o.mesh.Announced, settleTime, f); err != nil {
		return fmt.Errorf("announcements of listeners: %w", err)
	}
	return nil
}

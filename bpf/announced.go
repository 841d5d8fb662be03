// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"fmt"
	"time"

	"github.com/cilium/ebpf/ringbuf"
)

// settleTime is how long after its announcement a listener has surely begun or
// ended: the hooks run just before, in the same system call.
const settleTime = 20 * time.Millisecond

// Listening calls f when a program has begun or ceased to listen on a guarded port,
// until ctx ends: at once, where the change may not be complete yet, and again
// settleTime later. Announcements in between share that second call, so a program
// that opens and closes listeners without end causes 1/settleTime calls a second.
// There may be one reader at a time.
func (o *Objects) Listening(ctx context.Context, f func()) error {
	r, err := ringbuf.NewReader(o.mesh.Announced)
	if err != nil {
		return fmt.Errorf("announcements of listeners: %w", err)
	}
	defer func() { _ = r.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = r.Flush() }) // ends Read; a closed reader would panic in drain
	defer stop()
	for {
		_, err := r.Read()
		for more := err == nil; more && ctx.Err() == nil; {
			f()
			select {
			case <-ctx.Done():
			case <-time.After(settleTime):
			}
			more, err = drain(r)
			if !more {
				f()
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("announcements of listeners: %w", err)
		}
	}
}

// drain reads what has been announced up to now.
func drain(r *ringbuf.Reader) (some bool, err error) {
	const size = 16 // of a record with its header; see BPF_RINGBUF_HDR_SZ
	for left := r.AvailableBytes(); left > 0; left -= size {
		if _, err := r.Read(); err != nil {
			return false, err
		}
		some = true
	}
	return some, nil
}

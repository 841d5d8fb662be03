// SPDX-License-Identifier: Apache-2.0

// Package ring reads the ring buffers of the programs until a context ends. It must
// not know what their records say. A buffer may have one reader at a time.
package ring

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// Each calls f with each record until ctx ends. f may keep nothing of it.
func Each(ctx context.Context, m *ebpf.Map, f func(raw []byte)) error {
	r, err := ringbuf.NewReader(m)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = r.Close() })
	defer stop()
	for {
		rec, err := r.Read()
		if ctx.Err() != nil || errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return errors.Join(err, r.Close())
		}
		f(rec.RawSample)
	}
}

// Settled calls f when records of eight bytes or less have come: at once, and again
// settle later. Records in between share that second call, so a program that causes
// records without end causes 1/settle calls a second.
func Settled(ctx context.Context, m *ebpf.Map, settle time.Duration, f func()) error {
	r, err := ringbuf.NewReader(m)
	if err != nil {
		return err
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
			case <-time.After(settle):
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
			return err
		}
	}
}

// drain reads what has come up to now.
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

// SPDX-License-Identifier: Apache-2.0

// Package accept has the loops by which every part of the daemon accepts
// connections: one by one, or as descriptors in batches. It must not know what they
// are for.
package accept

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"
)

// Pauses between failed accepts: the first, and the longest after doubling.
const (
	firstPause   = time.Millisecond
	longestPause = 16 * time.Millisecond
)

// Loop calls handle for each connection that ln accepts, and accepts the next
// when handle has returned. It returns nil when ctx ends, and closes ln in any case. An error that
// concerns a single connection or a passing shortage of resources ([passing])
// is retried after a pause; any other error is returned with ln's address.
func Loop(ctx context.Context, ln net.Listener, handle func(net.Conn)) error {
	return repeat(ctx, ln, func() error {
		conn, err := ln.Accept()
		if err == nil {
			handle(conn)
		}
		return err
	})
}

// Batch is Loop for descriptors: it calls handle, which owns the descriptor, for each
// connection of a batch, and accepts the next batch when handle has returned for all.
func Batch(ctx context.Context, ln Listener, handle func(fd int)) error {
	return repeat(ctx, ln, func() error { return ln.AcceptAll(handle) })
}

// repeat calls once until ctx ends, or an error comes that doesn't pass.
func repeat(ctx context.Context, ln listener, once func() error) error {
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	wait := firstPause
	for {
		err := once()
		switch {
		case err == nil:
			wait = firstPause
		case ctx.Err() != nil:
			return nil
		case passing(err):
			pause(ctx, wait)
			wait = min(2*wait, longestPause)
		default:
			return fmt.Errorf("accept connections on %s: %w", ln.Addr(), err)
		}
	}
}

// passing says whether accept may succeed when called again: see accept(2),
// which names the errors of a connection that Linux reports through accept.
func passing(err error) bool {
	return slices.ContainsFunc([]error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, // until others free what they hold
		syscall.EINTR, syscall.ECONNABORTED,
		syscall.ENETDOWN, syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.ENONET,
		syscall.EHOSTUNREACH, syscall.EOPNOTSUPP, syscall.ENETUNREACH,
	}, func(e error) bool { return errors.Is(err, e) })
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"context"
	"errors"
	"sync"
	"time"
)

// staggered begins one try after the other: the next when one has failed, or step
// after the one before it began. The first success counts and ends the others;
// without any, the error is that of all. It returns when every try has ended.
func staggered[T any](ctx context.Context, step time.Duration, tries []func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result)
	tick := time.NewTicker(step)
	defer tick.Stop()
	begun := 0
	begin := func() {
		if begun == len(tries) {
			return
		}
		try := tries[begun]
		begun++
		tick.Reset(step)
		work.Go(func() {
			v, err := try(ctx)
			select {
			case results <- result{v, err}:
			case <-ctx.Done():
			}
		})
	}
	var errs []error
	begin()
	for len(errs) < len(tries) {
		select {
		case r := <-results:
			if r.err == nil {
				return r.value, nil
			}
			errs = append(errs, r.err)
			begin()
		case <-tick.C:
			begin()
		case <-ctx.Done():
			errs = append(errs, ctx.Err())
			return *new(T), errors.Join(errs...)
		}
	}
	return *new(T), errors.Join(errs...)
}

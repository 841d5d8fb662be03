// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"time"
)

const (
	firstWait   = 100 * time.Millisecond
	longestWait = 5 * time.Second
)

// JoinUntilAnswered retries Join with the current addrs until one of them answers or
// ctx ends. It returns at once if addrs is empty.
func (p *Pool) JoinUntilAnswered(ctx context.Context, addrs func() []string) {
	for wait := firstWait; ctx.Err() == nil; wait = min(2*wait, longestWait) {
		known := addrs()
		if len(known) == 0 {
			return
		}
		err := p.Join(ctx, known)
		if err == nil {
			return
		}
		p.log.Warn("no member answers yet; trying again", "tried", known, "err", err)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

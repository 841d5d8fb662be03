// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"testing"
	"time"
)

// Eventually asks f until it has no error, and fails the test with the last
// one when the deadline has passed.
func Eventually(t testing.TB, deadline time.Duration, what string, f func() error) {
	t.Helper()
	if err := wait(deadline, f); err != nil {
		t.Fatalf("%s: not within %s: %v", what, deadline, err)
	}
}

// wait asks f at growing intervals, at most 100 ms apart; at least once.
func wait(limit time.Duration, f func() error) error {
	end := time.Now().Add(limit)
	pause := time.Millisecond
	for {
		err := f()
		if err == nil || time.Now().After(end) {
			return err
		}
		<-time.After(pause)
		pause = min(2*pause, 100*time.Millisecond)
	}
}

// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// slow is how much longer than on a quiet machine something may take before a test
// fails; not in the soak, which measures.
const slow = 3

// Eventually calls f until it returns nil. When the deadline of a quiet machine has
// passed several times over, the last error fails the test.
func Eventually(t testing.TB, deadline time.Duration, what string, f func() error) {
	t.Helper()
	if os.Getenv("TACIT_SOAK") == "" {
		deadline *= slow
	}
	if err := wait(deadline, f); err != nil {
		t.Fatalf("%s: not within %s: %v", what, deadline, err)
	}
}

// AwaitText is Eventually for a text that must come to contain want.
func AwaitText(t testing.TB, deadline time.Duration, what, want string, text func() string) {
	t.Helper()
	Eventually(t, deadline, what, func() error {
		if got := text(); !strings.Contains(got, want) {
			return fmt.Errorf("no %q in the last lines of\n%s", want, tail(got, 40))
		}
		return nil
	})
}

// Must fails the test where err isn't nil.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// WriteFile writes a file that only its owner can read.
func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	Must(t, os.WriteFile(path, []byte(text), 0o600))
}

func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// wait calls f at growing intervals, at most 100 ms apart; at least once.
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

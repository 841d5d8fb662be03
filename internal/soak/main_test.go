// SPDX-License-Identifier: Apache-2.0

// Package soak counts what a mesh does over many connections, crashes and
// flushed tables: how often a caller was taken for another, a denied call was
// answered, a payload was on the wire in plain text, something was left behind.
// Each count has a short form, and the full one of `make soak` (TACIT_SOAK=1).
// It must not look inside the product: it counts what programs, tcpdump and the
// CLI see.
package soak

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	words := strings.Fields(os.Getenv(programVar))
	if len(words) == 0 {
		os.Exit(m.Run())
	}
	if err := runProgram(words); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// full reports whether the full counts are wanted.
func full() bool { return os.Getenv("TACIT_SOAK") != "" }

// size picks a number for the short form or for the full one.
func size(short, whole int) int {
	if full() {
		return whole
	}
	return short
}

// count prints one line of the table that `make soak` ends with, and fails the
// test unless right.
func count(t testing.TB, what, wanted string, seen any, right bool) {
	t.Helper()
	line := fmt.Sprintf("SOAK\t%s\t%s\t%v", what, wanted, seen)
	if !right {
		t.Errorf("%s\tWRONG", line)
		return
	}
	t.Log(line)
}

// zero is count for what must not happen.
func zero(t testing.TB, what string, seen int) {
	t.Helper()
	count(t, what, "0", seen, seen == 0)
}

// figure is count for a measurement without a limit.
func figure(t testing.TB, what string, format string, args ...any) {
	t.Helper()
	count(t, what, "-", fmt.Sprintf(format, args...), true)
}

// progress prints a line every 10 s in the full form, until the test ends or stop
// is called.
func progress(t testing.TB, say func() string) (stop func()) {
	t.Helper()
	if !full() {
		return func() {}
	}
	began, done := time.Now(), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				fmt.Fprintf(os.Stderr, "%s: %4.0f s: %s\n", t.Name(), time.Since(began).Seconds(), say())
			}
		}
	})
	stop = sync.OnceFunc(func() { close(done); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// after lets the load go on for a while. To wait for a condition, use
// testhost.Eventually.
func after(d time.Duration) { <-time.After(d) }

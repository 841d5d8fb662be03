// SPDX-License-Identifier: Apache-2.0

// Package soak counts what a mesh does over many connections, crashes and
// flushed tables: how often a caller was taken for another, a denied call came
// through, a byte was seen in clear, a thing was left behind. Each count has a
// short form, and the full one of `make soak` (TACIT_SOAK=1). It must not look
// inside a room: it counts what programs, tcpdump and the CLI see.
package soak

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// programVar makes the test binary a caller or a server.
const programVar = "TACIT_SOAK_PROGRAM"

func TestMain(m *testing.M) {
	words := strings.Fields(os.Getenv(programVar))
	if len(words) == 0 {
		os.Exit(m.Run())
	}
	var err error
	switch words[0] {
	case "serve":
		err = serve(words[1:])
	case "call":
		err = call(words[1])
	case "names":
		err = names(words[1:])
	default:
		err = fmt.Errorf("unknown program %q", words[0])
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// program is the command line of this binary as one of its programs.
func program(t testing.TB, words ...string) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{"env", programVar + "=" + strings.Join(words, " "), exe}
}

// full says whether the full counts are wanted.
func full() bool { return os.Getenv("TACIT_SOAK") != "" }

// size is a number of the short form, or of the full one.
func size(short, whole int) int {
	if full() {
		return whole
	}
	return short
}

// count puts one line into the table that `make soak` ends with, and fails
// the test where what was seen isn't what is wanted.
func count(t testing.TB, what, wanted string, seen any, right bool) {
	t.Helper()
	line := fmt.Sprintf("SOAK\t%s\t%s\t%v", what, wanted, seen)
	if !right {
		t.Errorf("%s\tWRONG", line)
		return
	}
	t.Log(line)
}

// zero counts what must not happen.
func zero(t testing.TB, what string, seen int) {
	t.Helper()
	count(t, what, "0", seen, seen == 0)
}

// figure reports a measurement that no limit is set on.
func figure(t testing.TB, what string, format string, args ...any) {
	t.Helper()
	count(t, what, "-", fmt.Sprintf(format, args...), true)
}

// progress prints a line every 10 s in the full form, until the test ends or
// the function returned is called.
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

// after waits for a moment of the load to pass; conditions are for
// testhost.Eventually.
func after(d time.Duration) { <-time.After(d) }

// eventually is testhost.Eventually for what is asked of a program's output.
func eventually(t testing.TB, what, want string, text func() string) {
	t.Helper()
	testhost.Eventually(t, 30*time.Second, what, func() error {
		if got := text(); !strings.Contains(got, want) {
			return fmt.Errorf("no %q in %.300s", want, got)
		}
		return nil
	})
}

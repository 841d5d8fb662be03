// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// VerifyNone fails the test when, within 2 s of its end, goroutines or
// descriptors are left that weren't there at the call. Call it first, so that
// it looks last. It can't tell tests apart that run in parallel.
func VerifyNone(t testing.TB) {
	t.Helper()
	wakePoller()
	goroutines, files := goroutineStacks(), descriptors()
	t.Cleanup(func() {
		err := wait(2*time.Second, func() error {
			for id, stack := range goroutineStacks() {
				if _, ok := goroutines[id]; !ok {
					return fmt.Errorf("goroutine left:\n%s", stack)
				}
			}
			for fd, target := range descriptors() {
				if files[fd] != target {
					return fmt.Errorf("descriptor left: %s is %s", fd, target)
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("2 s after the end: %v", err)
		}
	})
}

// wakePoller makes the runtime open the descriptors that it keeps.
func wakePoller() {
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
}

var goroutineID = regexp.MustCompile(`^goroutine (\d+) `)

// goroutineStacks are the stacks by id, without the caller's, the runtime's
// and those of package testing.
func goroutineStacks() map[string]string {
	buf := make([]byte, 1<<20)
	for n := runtime.Stack(buf, true); ; n = runtime.Stack(buf, true) {
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	stacks := map[string]string{}
	for i, text := range strings.Split(string(buf), "\n\n") {
		m := goroutineID.FindStringSubmatch(text)
		if i == 0 || m == nil || harmless(text) {
			continue
		}
		stacks[m[1]] = text
	}
	return stacks
}

func harmless(stack string) bool {
	for _, s := range []string{"testing.(*T).Run(", "testing.(*M).", "testing.runTests", "os/signal.signal_recv", "runtime.ensureSigM"} {
		if strings.Contains(stack, s) {
			return true
		}
	}
	return false
}

// descriptors are what this process has open, by number.
func descriptors() map[string]string {
	const dir = "/proc/self/fd"
	open := map[string]string{}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil { // the one of ReadDir is gone
			open[e.Name()] = target
		}
	}
	return open
}

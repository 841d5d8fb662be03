// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"testing"

	"golang.org/x/sys/unix"
)

// WithDescriptors runs f while the test's own process may open only n more
// descriptors.
func WithDescriptors(t testing.TB, n int, f func()) {
	t.Helper()
	var was unix.Rlimit
	Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	free, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0) // the lowest that is free
	Must(t, err)
	Must(t, unix.Close(free))
	Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free + n), Max: was.Max}))
	defer func() { Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was)) }()
	f()
}

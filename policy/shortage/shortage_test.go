// SPDX-License-Identifier: Apache-2.0

package shortage

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tacit/internal/testhost"
)

func TestIs(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("too many open files"), false},
		{fs.ErrNotExist, false},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}, true},
		{&fs.PathError{Op: "open", Path: "/", Err: syscall.ENFILE}, true},
		{fmt.Errorf("bpf: %w", unix.ENOMEM), true},
		{errors.Join(syscall.EACCES, syscall.EMFILE), true},
		{syscall.EMSGSIZE, false},
	} {
		if got := Is(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

// TestNow: neither more nor less than a look needs, and nothing stays open.
func TestNow(t *testing.T) {
	for range 3 {
		for n, want := range map[int]error{0: unix.EMFILE, spare - 1: unix.EMFILE, 4 * spare: nil} {
			testhost.WithDescriptors(t, n, func() {
				before := openable()
				if err := Now(); !errors.Is(err, want) {
					t.Errorf("with %d descriptors left: %v, want %v", n, err, want)
				}
				if now := openable(); now != before {
					t.Errorf("%d descriptors stayed open", before-now)
				}
			})
		}
	}
}

// openable is how many descriptors can be opened.
func openable() int {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	return 1 + openable()
}

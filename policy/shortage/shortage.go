// SPDX-License-Identifier: Apache-2.0

// Package shortage tells a daemon that lacks descriptors or memory from damage
// and from what others do: whoever can't look at something must not take it for
// gone or changed. It must not know what is looked at.
package shortage

import (
	"errors"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Is reports whether an error says that this process or the host has no
// descriptor or no memory left, and nothing about what was asked for.
func Is(err error) bool {
	return slices.ContainsFunc([]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM}, func(e error) bool { return errors.Is(err, e) })
}

// spare is how many descriptors Now wants: no look of the daemon has more open at
// once.
const spare = 6

// Now returns an error while a look at the host couldn't open what it needs. It
// takes a few microseconds, and is for looks in which a file that can't be opened
// counts as one that isn't there.
func Now() error {
	var open [spare]int
	for i := range open {
		fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			closeAll(open[:i])
			return err
		}
		open[i] = fd
	}
	closeAll(open[:])
	return nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd) // it was opened here
	}
}

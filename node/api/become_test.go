// SPDX-License-Identifier: Apache-2.0

package api

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// become changes groups and user of the calling thread alone; the functions of
// package syscall change those of all threads.
func become(uid uint32, n int, groups *uint32) error {
	keep := ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(n), uintptr(unsafe.Pointer(groups)), 0); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, keep, uintptr(uid), keep); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
		return errno
	}
	return nil
}

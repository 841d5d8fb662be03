// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Close keeps others from reading this process's memory: no debugger without
// CAP_SYS_PTRACE, and no core file. What it starts is not affected by the first.
func Close() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("close this process to debuggers: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	return nil
}

// needed are the capabilities that a running daemon uses; docs/state.md says what
// for.
const needed uint64 = 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON | 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_NET_BIND_SERVICE |
	1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_KILL

// Drop gives up all other capabilities, in every thread, and keeps the programs that
// this one starts from having them, where it may decide so. Call it once the kernel
// programs are loaded, while no Bare runs.
func Drop() error {
	have, err := held()
	if err != nil {
		return err
	}
	for c := range uint(unix.CAP_LAST_CAP + 1) {
		if needed&(1<<c) != 0 {
			continue
		}
		err := everywhere(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c))
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) { // unknown to this kernel; no CAP_SETPCAP, as where systemd has dropped it
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	header, data := capData(have & needed)
	if err := everywhere(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0]))); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// everywhere makes a system call in all threads of this process.
func everywhere(trap, a1, a2 uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(trap, a1, a2, 0); errno != 0 {
		return errno
	}
	return nil
}

func held() (uint64, error) {
	header, data := capData(0)
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("capabilities: %w", err)
	}
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32, nil
}

// capData makes a set both permitted and effective.
func capData(set uint64) (unix.CapUserHeader, [2]unix.CapUserData) {
	low, high := uint32(set), uint32(set>>32)
	return unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3},
		[2]unix.CapUserData{{Effective: low, Permitted: low}, {Effective: high, Permitted: high}}
}

// Bare calls f, which starts a program, in a thread that has no capabilities: the
// program has none, even as root, and can't gain any.
func Bare(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			done <- Bare(f) // the first thread can't end: it waits while another one does it
			runtime.UnlockOSThread()
			return
		}
		err := bare()
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func bare() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	header, data := capData(0)
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	return nil
}

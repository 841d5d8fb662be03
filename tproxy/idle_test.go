// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"log/slog"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// idleBytes is how much memory of this process an idle connection may cost, both ends
// together. Some 2 KiB are its own; the buffers of the loops and what goroutines leave
// behind are counted, too, and differ from run to run. The kernel's comes on top of it.
const idleBytes = 6 << 10

// TestIdle: connections that carry nothing hold little memory.
func TestIdle(t *testing.T) {
	const n = 1000
	a, b := pair(t, echo)
	quiet := slog.New(slog.DiscardHandler)
	a.cfg.Log, b.cfg.Log = quiet, quiet
	ask(t, a)
	program := plain(t)
	t.Cleanup(func() { _ = unix.Close(program) })
	if err := unix.Listen(program, n); err != nil {
		t.Fatal(err)
	}
	b.with(func() { b.programs["db"] = name(t, program).String() })
	front := netip.MustParseAddrPort(a.front)
	calls := make([]int, 0, n)
	t.Cleanup(func() {
		for _, c := range calls {
			_ = unix.Close(c)
		}
	})
	before := heap()
	for range n {
		c := plain(t)
		calls = append(calls, c)
		if err := unix.Connect(c, &unix.SockaddrInet4{Port: int(front.Port()), Addr: front.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
		_, _ = unix.Write(c, []byte("x"))
	}
	eventually(t, "all to be open", func() bool {
		open := 0
		for _, f := range b.Flows() {
			if f.Sent == 1 {
				open++
			}
		}
		return open == n
	})
	each := (heap() - before) / n
	t.Logf("%d bytes for each of %d connections, %d goroutines", each, n, runtime.NumGoroutine())
	if each > idleBytes {
		t.Errorf("%d bytes for each connection, want at most %d", each, idleBytes)
	}
}

// plain is a socket that the runtime doesn't know; its maker closes it.
func plain(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func name(t *testing.T, fd int) netip.AddrPort {
	t.Helper()
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(at.(*unix.SockaddrInet4).Port))
}

// heap is the memory in use, stacks included.
func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

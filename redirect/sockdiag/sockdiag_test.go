// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// enter moves the calling test into a network namespace of its own, with lo up. The thread is never given back, so it
// dies with the test and the namespace with it.
func enter(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	must(t, newNamespace())
}

func newNamespace() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// elsewhere runs f in another new network namespace.
func elsewhere(t *testing.T, f func()) {
	t.Helper()
	ended := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies
		err := newNamespace()
		if err == nil {
			f()
		}
		ended <- err
	}()
	must(t, <-ended)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listen opens a listener that ends with the test.
func listen(t testing.TB, network, addr string) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen(network, addr)
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// connect returns both ends of a connection to ln, on addr.
func connect(t *testing.T, ln *net.TCPListener, addr string) (client, accepted *net.TCPConn) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	a, err := ln.AcceptTCP()
	must(t, err)
	t.Cleanup(func() { a.Close() })
	return c.(*net.TCPConn), a
}

// ownCgroup is the ID of this process's cgroup v2: the inode of its directory.
func ownCgroup(t *testing.T) uint64 {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	var top string
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); top == "" && f[2] == "cgroup2" {
			top = f[1]
		}
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	must(t, err)
	_, path, ok := bytes.Cut(own, []byte("0::"))
	if !ok || top == "" {
		t.Fatal("this process is in no cgroup v2")
	}
	info, err := os.Stat(filepath.Join(top, strings.TrimSpace(string(path))))
	must(t, err)
	return info.Sys().(*syscall.Stat_t).Ino
}

// socketOf returns inode and cookie of a connection, as fstat(2) and SO_COOKIE give them.
func socketOf(t *testing.T, c *net.TCPConn) (inode uint32, cookie uint64) {
	t.Helper()
	raw, err := c.SyscallConn()
	must(t, err)
	var stat unix.Stat_t
	must(t, raw.Control(func(fd uintptr) {
		err = unix.Fstat(int(fd), &stat)
		if err == nil {
			cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE)
		}
	}))
	must(t, err)
	return uint32(stat.Ino), cookie
}

// callerOf is CallerCgroup of an accepted connection.
func callerOf(t *testing.T, c *net.TCPConn) (cgroup uint64, err error) {
	t.Helper()
	raw, outer := c.SyscallConn()
	must(t, outer)
	must(t, raw.Control(func(fd uintptr) { cgroup, err = CallerCgroup(int(fd)) }))
	return cgroup, err
}

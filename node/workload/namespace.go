// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"fmt"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespaces is the directory of ip-netns(8).
const namespaces = "/run/netns"

// NamespacePath is the file of a network namespace. name is a name of
// ip-netns(8) or an absolute path.
func NamespacePath(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(namespaces, filepath.Clean("/"+name))
}

// Namespace returns the cookie of a network namespace (SO_NETNS_COOKIE, also
// bpf_get_netns_cookie), which no other namespace has until the next boot.
func Namespace(name string) (cookie uint64, err error) {
	path := NamespacePath(name)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		cookie, err = cookieOf(fd)
	}()
	<-done
	if err != nil {
		return 0, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return cookie, nil
}

// cookieOf leaves the calling thread in the namespace.
func cookieOf(namespace int) (uint64, error) {
	if err := unix.Setns(namespace, unix.CLONE_NEWNET); err != nil {
		return 0, err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s)
	return unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
}

// Init returns the id of the cgroup of process 1, which makes the sockets of
// socket activation; 0 when it is in no cgroup v2.
func Init() uint64 {
	path, err := cgroupOf(1)
	if err != nil {
		return 0
	}
	id, err := ID(path)
	if err != nil {
		return 0
	}
	return id
}

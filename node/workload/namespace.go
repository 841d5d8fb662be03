// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"fmt"
	"path/filepath"

	"tacit/redirect/netns"

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
	at, err := netns.At(NamespacePath(name))
	if err != nil {
		return 0, err
	}
	err = at.Do(func(func() error) error {
		cookie, err = cookieOf()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("network namespace %s: %w", at.Path, err)
	}
	return cookie, nil
}

func cookieOf() (uint64, error) {
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

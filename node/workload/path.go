// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// handleKernfs is the type of a file handle that holds a cgroup's id (FILEID_KERNFS, linux/exportfs.h).
const handleKernfs = 0xfe

// PathOf returns the directory of the cgroup with that id, in the tree that root belongs to. It needs
// CAP_DAC_READ_SEARCH.
func PathOf(root string, id uint64) (string, error) {
	dir, err := os.Open(root)
	if err != nil {
		return "", fmt.Errorf("cgroup: %w", err)
	}
	defer dir.Close()
	handle := unix.NewFileHandle(handleKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(int(dir.Fd()), handle, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("find cgroup %d: %w", id, err)
	}
	found := os.NewFile(uintptr(fd), "cgroup")
	defer found.Close()
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", found.Fd()))
	if err != nil {
		return "", fmt.Errorf("find cgroup %d: %w", id, err)
	}
	return path, nil
}

// DaemonPath is the daemon's own leaf as netfilter names it: below the tree's own root, with a leading slash.
func (t Tree) DaemonPath() (string, error) {
	top, err := Root()
	if err != nil {
		return "", err
	}
	return filepath.Join("/", strings.TrimPrefix(t.daemon(), top)), nil
}

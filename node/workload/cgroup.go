// SPDX-License-Identifier: Apache-2.0

// Package workload finds the cgroups of workloads in the cgroup v2 tree, watches
// for new ones, and moves processes into the cgroups that are tacit's own. It
// must not know policy, service numbers or kernel maps.
package workload

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrNoTree says that the host has no cgroup v2 tree.
var ErrNoTree = errors.New("no cgroup v2 tree is mounted: mount one (mount -t cgroup2 none /sys/fs/cgroup) or boot with systemd.unified_cgroup_hierarchy=1")

// Root returns the mount point of the cgroup v2 tree: /sys/fs/cgroup or, on
// hybrid hosts, /sys/fs/cgroup/unified.
func Root() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("mount table: %w", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		left, right, ok := strings.Cut(s.Text(), " - ")
		fields := strings.Fields(left)
		if ok && strings.HasPrefix(right, "cgroup2 ") && len(fields) > 4 {
			return fields[4], nil
		}
	}
	return "", ErrNoTree
}

// ID returns a cgroup's id: the inode of its directory (kernfs, on 64-bit
// kernels), which is also what bpf_get_current_cgroup_id returns.
func ID(path string) (uint64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("cgroup: %w", err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.IsDir() {
		return 0, fmt.Errorf("cgroup %s: not a directory of a cgroup tree", path)
	}
	return sys.Ino, nil
}

// Check returns an error unless path is a directory of a cgroup v2 tree.
func Check(path string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		return fmt.Errorf("cgroup %s: %w", path, err)
	}
	const cgroup2Magic = 0x63677270 // linux/magic.h
	if fs.Type != cgroup2Magic {
		return fmt.Errorf("cgroup %s: not in a cgroup v2 tree; give --cgroup a directory of one", path)
	}
	return nil
}

// procs lists the processes in one cgroup, not those below it.
func procs(path string) ([]int, error) {
	text, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	var pids []int
	for _, field := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("cgroup %s: %w", path, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

func enter(path string, pid int) error {
	if err := os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		return fmt.Errorf("move process %d into its cgroup: %w", pid, err)
	}
	return nil
}

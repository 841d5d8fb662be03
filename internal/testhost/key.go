// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// key names everything that belongs to one Net; remove needs nothing else.
type key struct{ pid, n int }

func (k key) String() string               { return fmt.Sprintf("tacit-test-%d-%d", k.pid, k.n) }
func (k key) cgroup(root string) string    { return filepath.Join(root, k.String()) }
func (k key) dir() string                  { return filepath.Join(os.TempDir(), k.String()) }
func (k key) namespace(host string) string { return fmt.Sprintf("tacit-%d-%d-%s", k.pid, k.n, host) }

// newKey takes the first number that this process doesn't use yet; making the
// cgroup claims it.
func newKey(root string) (key, error) {
	for n := 1; n < 250; n++ {
		k := key{os.Getpid(), n}
		err := os.Mkdir(k.cgroup(root), 0o755)
		if err == nil {
			return k, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return key{}, fmt.Errorf("cgroup for test hosts: %w", err)
		}
	}
	return key{}, errors.New("250 test networks at once: tests don't remove theirs")
}

// removeDead removes what killed tests left behind.
func removeDead(root string) {
	found, _ := filepath.Glob(filepath.Join(root, "tacit-test-*-*"))
	for _, path := range found {
		k, ok := parseKey(filepath.Base(path))
		if !ok {
			continue
		}
		if err := unix.Kill(k.pid, 0); errors.Is(err, unix.ESRCH) {
			_ = k.remove(root) // whoever runs next tries again
		}
	}
}

func parseKey(name string) (key, bool) {
	f := strings.Split(strings.TrimPrefix(name, "tacit-test-"), "-")
	if len(f) != 2 {
		return key{}, false
	}
	pid, err1 := strconv.Atoi(f[0])
	n, err2 := strconv.Atoi(f[1])
	return key{pid, n}, err1 == nil && err2 == nil
}

// remove kills every process of the hosts and removes namespaces, pins, mounts,
// directories and, last, the cgroups. It needs no record of what was made.
func (k key) remove(root string) error {
	err := killAll(k.cgroup(root))
	spaces, _ := filepath.Glob(nsPath(k.namespace("*")))
	for _, path := range spaces {
		err = errors.Join(err, command("", "ip", "netns", "del", filepath.Base(path)))
	}
	mounts, _ := filepath.Glob(filepath.Join(k.dir(), "*", "bpf"))
	for _, dir := range mounts {
		err = errors.Join(err, dropBPF(dir))
	}
	return errors.Join(err, os.RemoveAll(k.dir()), removeTree(k.cgroup(root)))
}

// dropBPF unpins everything, then unmounts: another mount namespace may hold a
// copy of the mount, so that unmounting alone would keep the pins.
func dropBPF(dir string) error {
	inside, _ := os.ReadDir(dir)
	var err error
	for _, e := range inside {
		if !e.IsDir() { // the kernel's own debug files
			continue
		}
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if e := unix.Unmount(dir, unix.MNT_DETACH); e != nil && !errors.Is(e, unix.EINVAL) { // EINVAL: not mounted
		err = errors.Join(err, fmt.Errorf("unmount %s: %w", dir, e))
	}
	return err
}

// killAll ends the processes of a cgroup and of all below it.
func killAll(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("ending the processes of %s: %w", dir, err)
	}
	return wait(10*time.Second, func() error {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
		if err == nil && bytes.Contains(text, []byte("populated 1")) {
			return fmt.Errorf("processes of %s don't end", dir)
		}
		return nil
	})
}

// removeTree removes a cgroup and all below it, deepest first.
func removeTree(dir string) error {
	var dirs []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	slices.Reverse(dirs)
	for _, d := range dirs {
		err := wait(5*time.Second, func() error {
			err := unix.Rmdir(d)
			if errors.Is(err, unix.ENOENT) {
				return nil
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("removing cgroup %s: %w", d, err)
		}
	}
	return nil
}

// cgroupRoot is where the cgroup v2 tree is mounted.
func cgroupRoot() (string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		before, after, ok := strings.Cut(line, " - ")
		if f := strings.Fields(before); ok && len(f) > 4 && strings.HasPrefix(after, "cgroup2 ") {
			return f[4], nil
		}
	}
	return "", errors.New("no cgroup v2 tree is mounted: test hosts need one")
}

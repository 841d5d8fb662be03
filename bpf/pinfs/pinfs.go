// SPDX-License-Identifier: Apache-2.0

// Package pinfs keeps the folder in a bpffs in which objects are pinned, and the
// pins in it. It must not know which objects those are.
package pinfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// usual is where most hosts mount a bpffs.
const usual = "/sys/fs/bpf"

// Ensure makes dir in a bpffs. Where there is none it mounts one: on /sys/fs/bpf
// for a folder there, else on dir itself.
func Ensure(dir string) error {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return fmt.Errorf("make the folder for pins: %w", err)
	}
	if parent == usual && !isBPFFS(parent) {
		if err := mount(parent); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for pins: %w", err)
	}
	if isBPFFS(dir) {
		return nil
	}
	return mount(dir)
}

func mount(dir string) error {
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount bpffs on %s: %w", dir, err)
	}
	return nil
}

func isBPFFS(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && uint32(fs.Type) == unix.BPF_FS_MAGIC
}

// Missing returns where Ensure would mount a bpffs for this folder, or "" where
// none is missing. It changes nothing.
func Missing(dir string) string {
	parent := filepath.Dir(dir)
	switch {
	case isBPFFS(dir), !Exists(dir) && isBPFFS(parent):
		return ""
	case parent == usual && !isBPFFS(parent):
		return parent
	}
	return dir
}

// Remove removes an empty dir, and unmounts the bpffs that Ensure mounted on it.
func Remove(dir string) error {
	if isBPFFS(dir) && !isBPFFS(filepath.Dir(dir)) {
		if err := unix.Unmount(dir, 0); err != nil {
			return fmt.Errorf("unmount bpffs from %s: %w", dir, err)
		}
	}
	return os.Remove(dir)
}

// Replace replaces the pin at path by a rename, so that there is always one.
func Replace(path string, pin func(string) error) error {
	fresh := path + "_new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pin %s: %w", path, err)
	}
	if err := pin(fresh); err != nil {
		return fmt.Errorf("pin %s: %w", path, err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("pin %s: %w", path, err)
	}
	return nil
}

// File identifies a pin: a new pin at the same path has another inode.
type File struct{ dev, ino uint64 }

// Stat identifies the pin at path.
func Stat(path string) (File, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return File{st.Dev, st.Ino}, err
}

// Exists says whether there is something at path.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

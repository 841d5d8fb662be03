// SPDX-License-Identifier: Apache-2.0

// Package secrets keeps this node's keys from others on the host: it checks who may
// read the files, closes the daemon's memory, and gives up what a start needed and
// a running daemon doesn't. It must not read a secret.
package secrets

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Check refuses a state directory whose files or folders others can read: an
// operator may have copied them back from somewhere. An empty one is only closed.
func Check(dir string) error {
	if list, err := os.ReadDir(dir); err == nil && len(list) == 0 {
		return os.Chmod(dir, 0o700)
	}
	return Inspect(dir)
}

// Inspect is Check without a change.
func Inspect(dir string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(list) == 0 {
		return nil
	}
	var errs []error
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = inspect(path, d)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a temporary file of a running daemon
		}
		errs = append(errs, err)
		return nil
	})
	return errors.Join(append(errs, err)...)
}

// inspect examines one folder or file. A symbolic link counts as what it leads to.
func inspect(path string, d fs.DirEntry) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	mode, want := info.Mode().Perm(), "700"
	switch {
	case !d.IsDir() && !info.Mode().IsRegular(), strings.HasSuffix(path, ".crt"):
		return nil
	case !d.IsDir():
		want = "600"
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to uid %d, who can read the keys of this node: chown %d %s", path, st.Uid, os.Geteuid(), path)
	}
	if mode&0o077 != 0 {
		return fmt.Errorf("%s can be used by others than its owner (mode %04o), and holds keys of this node: chmod %s %s", path, mode, want, path)
	}
	return nil
}

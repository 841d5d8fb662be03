// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// WriteFile replaces path atomically; the data is on disk when it returns.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	tmp, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(tmp.Name()))
	}
	return SyncDir(dir)
}

// SyncDir makes renames in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// maxAside is how many damaged files are kept of one name.
const maxAside = 3

// Aside keeps a damaged file under a name that says when it was found, and calls
// replace, which writes a sound one. Only the last few are kept.
func Aside(path string, replace func() error) (name string, err error) {
	name = path + ".bad-" + time.Now().UTC().Format("20060102T150405.000000")
	if err := os.Link(path, name); err != nil {
		return "", err
	}
	if err := replace(); err != nil {
		return "", errors.Join(err, os.Remove(name))
	}
	all, err := filepath.Glob(path + ".bad-*")
	slices.Sort(all)
	for _, old := range all[:max(0, len(all)-maxAside)] {
		err = errors.Join(err, os.Remove(old))
	}
	return filepath.Base(name), err
}

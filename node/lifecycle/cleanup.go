// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"tacit/bpf"
	"tacit/node/api"
	"tacit/node/config"
	"tacit/node/handover"
	"tacit/node/workload"
	"tacit/redirect"
)

// Cleanup removes all that a daemon put into the kernel and the firewall of
// this network namespace, and its files in RunDir. It needs no memory of what
// was done, and refuses while the daemon runs. Where one removal fails it goes
// on with the next. It returns what it did.
func Cleanup(c config.Config) (done []string, err error) {
	if conn, err := net.Dial("unix", c.Socket()); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("tacitd is running (it answers on %s): stop it first", c.Socket())
	}
	var errs []error
	note := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
			return
		}
		done = append(done, "removed: "+what)
	}
	note("routes, rules and chains", redirect.Cleanup())
	note("programs, maps and links below "+c.BPFDir, bpf.Remove(c.BPFDir))
	root, err := c.Tree()
	if err == nil {
		err = removeCgroups(root)
	}
	note("empty cgroups below "+root+"/tacit", err)
	errs = append(errs, removeFiles(c.Paths))
	if os.Remove(c.RunDir) == nil { // else it is absent, or holds files of others
		done = append(done, "removed: "+c.RunDir)
	}
	return done, errors.Join(errs...)
}

func removeCgroups(root string) error {
	tree, err := workload.NewTree(root)
	if err != nil {
		return err
	}
	return tree.Remove()
}

// removeFiles removes the daemon's own files from RunDir.
func removeFiles(p config.Paths) error {
	errs := []error{api.Remove(p.Socket()), api.Remove(handover.Path(p.RunDir))}
	for _, path := range []string{deadlineFile(p), deadlineFile(p) + ".new"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

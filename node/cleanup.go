// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net"
	"os"

	"tacit/bpf"
	"tacit/node/api"
	"tacit/node/workload"
	"tacit/redirect"
)

// Cleanup removes all that a daemon put into the kernel and the firewall of
// this network namespace, and its files under RunDir. It needs no memory of
// what was done, and refuses while the daemon runs. It returns what it did.
func Cleanup(c Config) (done []string, err error) {
	if conn, err := net.Dial("unix", c.SocketPath()); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("tacitd is running (it answers on %s): stop it first", c.SocketPath())
	}
	var errs []error
	step := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
			return
		}
		done = append(done, "removed: "+what)
	}
	step("routes, rules and chains", redirect.Cleanup())
	step("programs, maps and links below "+c.BPFDir, bpf.Remove(c.BPFDir))
	root, err := c.tree()
	if err == nil {
		err = removeCgroups(root)
	}
	step("empty cgroups below "+root+"/tacit", err)
	if err := api.Remove(c.SocketPath()); err != nil {
		errs = append(errs, err)
	}
	for _, path := range []string{c.windowPath(), c.windowPath() + ".new"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := os.Remove(c.RunDir); err == nil {
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

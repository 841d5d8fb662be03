// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"

	"tacit/node/definition"
	"tacit/node/workload"
)

// cgroups keeps the last scan of the tree until an event says that it no
// longer holds.
type cgroups struct {
	tree    workload.Tree
	watcher *workload.Watcher // nil: no events
	stale   atomic.Bool
	blind   bool // some directory isn't followed
	scan    *workload.Scan
}

// follow takes the watcher in use; nil when there is none any more.
func (c *cgroups) follow(w *workload.Watcher) {
	c.watcher, c.blind = w, false
	c.stale.Store(true)
}

// hold reports whether the last scan shows the tree as it is.
func (c *cgroups) hold() bool { return c.scan != nil && !c.blind && !c.stale.Load() }

// rescans is how often a directory may appear while the tree is scanned before
// the next Look goes on.
const rescans = 3

// look scans the tree, and makes sure that what changes afterwards is an event.
// named are cgroups that are looked up by path. The error says for the first
// time that some directories can't be followed.
func (c *cgroups) look(containers bool, named []string) error {
	known := c.blind
	for range rescans {
		c.stale.Store(false)
		c.scan = c.tree.Scan(containers)
		if c.watcher == nil {
			c.blind = true
			return nil
		}
		added, err := c.watcher.Follow(append(c.scan.Parents(), c.parents(named)...))
		if c.blind = err != nil; c.blind && !known && !errors.Is(err, os.ErrClosed) {
			return err
		}
		if !added {
			return nil
		}
	}
	c.stale.Store(true)
	return nil
}

// parents are the directories in which the named cgroups could be made.
func (c *cgroups) parents(named []string) []workload.Cgroup {
	var out []workload.Cgroup
	asked := map[string]bool{}
	for _, name := range named {
		if dir := filepath.Dir(name); !asked[dir] {
			asked[dir] = true
			if parent, ok := c.scan.Parent(name); ok {
				out = append(out, parent)
			}
		}
	}
	return out
}

func selector(d definition.Definition) workload.Selector {
	w := d.Workload
	return workload.Selector{Cgroup: w.Cgroup, SystemdUnit: w.SystemdUnit, Container: w.Container}
}

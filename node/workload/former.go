// SPDX-License-Identifier: Apache-2.0

package workload

// This file serves node/local.go and node/reconcile.go, and goes with them.

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"github.com/fsnotify/fsnotify"

	"tacit/identity"
)

// Paths returns the paths of Scan.Cgroups, by a scan of its own.
func (t Tree) Paths(name identity.Name, sel Selector) []string {
	var out []string
	for _, c := range t.Scan(sel.Container != "").Cgroups(name, sel) {
		out = append(out, c.Path)
	}
	return out
}

// Watch says on changed that a cgroup was made where one of a workload could
// be: in the folders that come from places, each list of which replaces the one
// before. It never blocks on changed, so give it room for one. Where events
// can't be had it does nothing: the daemon looks by itself twice a second.
func Watch(ctx context.Context, places <-chan []string, changed chan<- struct{}) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		<-ctx.Done()
		return
	}
	defer w.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case dirs := <-places:
			follow(w, dirs)
		case e := <-w.Events:
			if !e.Has(fsnotify.Create) {
				continue
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		case <-w.Errors: // events were lost: the next look finds what came
		}
	}
}

func follow(w *fsnotify.Watcher, dirs []string) {
	for _, old := range w.WatchList() {
		if !slices.Contains(dirs, old) {
			_ = w.Remove(old)
		}
	}
	for _, dir := range dirs {
		_ = w.Add(dir) // it may be gone by now
	}
}

// Places are the folders in which a cgroup for the selector would be made.
func (t Tree) Places(name identity.Name, s Selector) []string {
	own := filepath.Dir(t.service(name))
	switch {
	case s.Cgroup != "":
		return existing(t.root, own, filepath.Dir(t.absolute(s.Cgroup)))
	case s.Container != "":
		return existing(t.root, own, filepath.Join(t.root, "system.slice"), filepath.Join(t.root, "machine.slice"), filepath.Join(t.root, "docker"))
	}
	return existing(t.root, own, filepath.Join(t.root, "system.slice"))
}

// existing are the folders that are there, and for the others the nearest one
// above, down to root.
func existing(root string, dirs ...string) []string {
	var out []string
	for _, dir := range dirs {
		for !isDir(dir) && len(dir) > len(root) {
			dir = filepath.Dir(dir)
		}
		if _, err := os.Stat(dir); err == nil && !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	return out
}

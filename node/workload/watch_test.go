// SPDX-License-Identifier: Apache-2.0

package workload_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/node/workload"
)

// TestWatcher: what is made, removed or given away in a directory that is
// followed is an event, and nothing else is.
func TestWatcher(t *testing.T) {
	tree, root := newRoot(t)
	system := mkdir(t, root, "system.slice")
	w, err := workload.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	events, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() { ended <- w.Run(ctx, func() { events <- struct{}{} }) }()
	follow := func(want bool) {
		t.Helper()
		if added, err := w.Follow(tree.Scan(false).Parents()); added != want || err != nil {
			t.Errorf("added %t, %v; want %t", added, err, want)
		}
	}
	await := func(what string) {
		t.Helper()
		select {
		case <-events:
		case <-time.After(5 * time.Second):
			t.Fatalf("%s, and there is no event", what)
		}
	}
	remove := func(path string) {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	follow(true)
	follow(false)

	unit := mkdir(t, system, "db.service")
	await("a unit was made")
	if err := os.Chown(unit, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	await("a unit was given to a user")
	remove(unit)
	await("a unit was removed")

	slice := mkdir(t, system, "system-pg.slice")
	await("a slice was made")
	follow(true)
	mkdir(t, slice, "pg@main.service")
	await("a unit was made in a new slice")

	remove(slice + "/pg@main.service")
	await("that unit was removed")
	remove(slice)
	await("the slice was removed")
	mkdir(t, slice)
	await("the slice was made again")
	follow(true)
	mkdir(t, slice, "pg@main.service")
	await("a unit was made in a slice that is followed anew")

	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := w.Follow(nil); err == nil {
		t.Error("a closed watcher follows")
	}
}

// TestWatcherFollowsNoMore: a directory that is left out costs the kernel no
// watch any more.
func TestWatcherFollowsNoMore(t *testing.T) {
	tree, root := newRoot(t)
	mkdir(t, root, "a.slice")
	w, err := workload.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	dirs := tree.Scan(false).Parents()
	for _, want := range []int{2, 1, 0, 2} {
		if _, err := w.Follow(dirs[:want]); err != nil {
			t.Fatal(err)
		}
		if got := watches(t); got != want {
			t.Errorf("%d watches, want %d", got, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx, func() {}); err != nil {
		t.Error(err)
	}
	if got := watches(t); got != 0 {
		t.Errorf("%d watches after the end", got)
	}
}

// watches counts this process's inotify watches (proc_pid_fdinfo(5)).
func watches(t *testing.T) int {
	t.Helper()
	infos, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, info := range infos {
		text, _ := os.ReadFile(info) // that of a file that is closed by now is gone
		count += strings.Count(string(text), "inotify wd:")
	}
	return count
}

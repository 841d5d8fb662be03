// SPDX-License-Identifier: Apache-2.0

package workload_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"tacit/node/workload"
)

// TestFormerWatch: that a workload's cgroup was made is told at once, whatever part
// of its path was there before.
func TestFormerWatch(t *testing.T) {
	tree, root := newRoot(t)
	ctx, cancel := context.WithCancel(t.Context())
	places, changed, ended := make(chan []string), make(chan struct{}, 1), make(chan struct{})
	go func() { defer close(ended); workload.Watch(ctx, places, changed) }()
	selector := workload.Selector{Cgroup: "/box/app"}
	for _, path := range []string{"box", "box/app"} {
		dirs := tree.Places("app", selector)
		places <- dirs
		places <- dirs // by now the first is in force
		mkdir(t, root, path)
		select {
		case <-changed:
		case <-time.After(5 * time.Second):
			t.Fatalf("%s was made, and nobody tells; watched: %v", path, dirs)
		}
	}
	if dirs := tree.Places("app", selector); len(dirs) == 0 || dirs[len(dirs)-1] != filepath.Join(root, "box") {
		t.Errorf("places %v", dirs)
	}
	cancel()
	<-ended
}

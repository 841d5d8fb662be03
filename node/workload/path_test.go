// SPDX-License-Identifier: Apache-2.0

package workload_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tacit/node/workload"
)

func TestPathOf(t *testing.T) {
	_, root := newRoot(t)
	deep := mkdir(t, root, "a", "b c")
	for _, path := range []string{root, deep} {
		id, err := workload.ID(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := workload.PathOf(root, id); err != nil || got != path {
			t.Errorf("cgroup %d: %q, %v; want %s", id, got, err, path)
		}
	}
	id, err := workload.ID(deep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(deep); err != nil {
		t.Fatal(err)
	}
	if got, err := workload.PathOf(root, id); err == nil && got == deep {
		t.Errorf("a removed cgroup is still %s", got)
	}
	tree, err := workload.NewTree(root)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tree.DaemonPath(); err != nil || got != filepath.Join("/", strings.TrimPrefix(root, top(t)), "tacit/daemon") {
		t.Errorf("the daemon's path is %q, %v", got, err)
	}
}
